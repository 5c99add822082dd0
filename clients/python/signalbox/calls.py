"""Every call of the API: its request, and how its answer is read. Both clients take their methods from here."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from signalbox.errors import JobFailed
from signalbox.requests import IDEMPOTENCY_KEY, Request, not_of_the_api
from signalbox.results import Adapter, Dataset, Job, Model, Page, Record, Release, Selection, TrainingEstimate

T = TypeVar("T")
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how the JSON of its answer becomes a result."""

    request: Request
    parse: Callable[[Any], T]

    def result(self, raw: Any) -> T:
        """What the answer's JSON says; raises `ApiError` where it is not of this API."""
        try:
            return self.parse(raw)
        except (TypeError, AttributeError, LookupError) as error:
            raise not_of_the_api(self.request.path) from error


def get(path: str, **params: Any) -> Call[Any]:
    """GET a path that has no method of its own yet; answers the JSON."""
    return Call(Request("GET", path, params=params), _as_it_is)


def post(
    path: str,
    body: Any = None,
    *,
    content: bytes | None = None,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Call[Any]:
    """POST JSON or other content; answers the JSON. It is retried only with an Idempotency-Key among `headers`."""
    request = Request(
        "POST",
        path,
        json=body,
        content=content,
        params=params or {},
        headers=headers or {},
        timeout_seconds=timeout,
    )
    return Call(request, _as_it_is)


def delete(path: str) -> Call[Any]:
    """DELETE a path; answers the JSON."""
    return Call(Request("DELETE", path), _as_it_is)


def _as_it_is(raw: Any) -> Any:
    return raw


def submit(
    input: str,
    *,
    instruction: str = "",
    label: str | None = None,
    adapter: str | None = None,
    max_new_tokens: int | None = None,
    params: Mapping[str, Any] | None = None,
    priority: str | None = None,
    deadline_seconds: float | None = None,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Submit one text; the job is stored when this returns.

    Without `label` and `adapter` the selector decides. `params` are those of the generation (temperature, seed, …).
    The same `idempotency_key` and text make one job; without one, each call makes its own job, however often it is
    retried.
    """
    limit = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    body = {
        "input": input,
        "instruction": instruction or None,
        "label": label,
        "adapter": adapter,
        "params": {**limit, **(params or {})} or None,
        "priority": priority,
        "deadline_seconds": deadline_seconds,
        "metadata": metadata,
    }
    return Call(_post("/v1/jobs", _given(body), idempotency_key), Job.from_dict)


def select(
    input: str, *, instruction: str = "", wait_seconds: float = 10.0, idempotency_key: str | None = None
) -> Call[Selection | Job]:
    """The request behind `select`: a selection, or its job where it takes longer than `wait_seconds`."""
    body = {"input": input, "instruction": instruction, "wait_seconds": wait_seconds}
    return Call(_post("/v1/select", body, idempotency_key), _selection_or_job)


def _selection_or_job(raw: Mapping[str, Any]) -> Selection | Job:
    return Job.from_dict(raw) if "events_url" in raw else Selection.from_dict(raw)


def selection_of(job: Job) -> Selection:
    """What a selection job found; raises `JobFailed`."""
    if job.selection is None:
        error = job.error or {"code": f"job_{job.state}", "detail": f"selection {job.id} was {job.state}"}
        raise JobFailed(str(error["code"]), str(error["detail"]), body=job.to_dict())
    return job.selection


def train(kind: str, *, idempotency_key: str | None = None, **settings: Any) -> Call[Job]:
    """Queue a training job: `train("adapter.train", label="bank.cards", dataset="rows")`.

    `settings` are the body's other members; the API's page `/docs` lists them for each kind.
    """
    return Call(_post("/v1/training/jobs", {"kind": kind, **settings}, idempotency_key), Job.from_dict)


def estimate(kind: str, **settings: Any) -> Call[TrainingEstimate]:
    """What a training job would take; the arguments are those of `train`."""
    return Call(_post("/v1/training/jobs/estimate", {"kind": kind, **settings}, None), TrainingEstimate.from_dict)


def job(job: Job | str) -> Call[Job]:
    """One job as it is now."""
    return Call(Request("GET", path_of(job)), Job.from_dict)


def jobs(
    *,
    state: str | None = None,
    kind: str | None = None,
    label: str | None = None,
    rejected: bool | None = None,
    min_probability: float | None = None,
    max_probability: float | None = None,
    feedback: bool | None = None,
    key: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int = 50,
    before: str | None = None,
    include: Sequence[str] | None = None,
) -> Call[Page]:
    """Jobs, newest first, at most 200 a page; filters are joined by and, times are ISO 8601 with an offset.

    They have their `request`, `result` and `feedback` only where `include` names these.
    """
    params = {
        "state": state,
        "kind": kind,
        "label": label,
        "rejected": rejected,
        "min_probability": min_probability,
        "max_probability": max_probability,
        "feedback": feedback,
        "key": key,
        "since": since,
        "until": until,
        "limit": limit,
        "before": before,
        "include": include,
    }
    return Call(Request("GET", "/v1/jobs", params=params), Page.from_dict)


def cancel(job: Job | str) -> Call[Job]:
    """Cancel a job; one that runs ends within its next step, one that has ended stays as it is."""
    return Call(Request("DELETE", path_of(job)), Job.from_dict)


def dead() -> Call[Page]:
    """The dead letters: jobs given up after several workers in a row lost their lease."""
    return Call(Request("GET", "/v1/jobs/dead"), Page.from_dict)


def replay(job: Job | str, *, idempotency_key: str | None = None) -> Call[Job]:
    """Run a dead letter again, as the same job."""
    return Call(_post(f"/v1/jobs/{_id(job)}/replay", None, idempotency_key), Job.from_dict)


def feedback(
    job: Job | str,
    *,
    label: str | None = None,
    rating: int | None = None,
    output: str | None = None,
    new: bool | None = None,
    accept: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[None]:
    """Say what was right about a finished job: its label, a rating (-1, 0, 1), the right output.

    A `new` label is one that the current release lacks. With `accept` a reviewer takes all that was said into the
    training data, or takes it back.
    """
    body = _given({"label": label, "rating": rating, "output": output, "new": new, "accept": accept})
    return Call(_post(f"/v1/jobs/{_id(job)}/feedback", body, idempotency_key), lambda _: None)


def delete_feedback(job: Job | str) -> Call[None]:
    """Forget all feedback on a job, and what of it joined the training data."""
    return Call(Request("DELETE", f"/v1/jobs/{_id(job)}/feedback"), lambda _: None)


def releases() -> Call[list[Release]]:
    """All releases, oldest first."""
    return Call(Request("GET", "/v1/releases"), _items(Release))


def release(release_id: str = "current") -> Call[Release]:
    """One release with its report."""
    return Call(Request("GET", f"/v1/releases/{release_id}"), Release.from_dict)


def edit_release(
    *,
    add: Mapping[str, str] | None = None,
    remove: Sequence[str] | None = None,
    templates: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    instructions: Mapping[str, str] | None = None,
    keep_selector: bool = True,
    start_from: str = "",
    idempotency_key: str | None = None,
) -> Call[Release]:
    """Make a candidate by hand of the current release, or of `start_from`; nothing is trained.

    `add` maps labels to adapters (`label@n`, a label, a digest). Without a selector every request names its label.
    """
    body = _given({
        "add": add,
        "remove": remove,
        "templates": templates,
        "groups": groups,
        "instructions": instructions,
        "selector": None if keep_selector else "none",
        "start_from": start_from or None,
    })  # fmt: skip
    return Call(_post("/v1/releases/edit", body, idempotency_key), Release.from_dict)


def promote(release_id: str, *, force: bool = False, idempotency_key: str | None = None) -> Call[Release]:
    """Make a candidate the current release; `force` overrules the gate."""
    return Call(_post(f"/v1/releases/{release_id}/promote", {"force": force}, idempotency_key), Release.from_dict)


def rollback(to: str = "", *, force: bool = False, idempotency_key: str | None = None) -> Call[Release]:
    """Go back to the current release's parent, or to any older release; `force` needs no live workers."""
    return Call(_post("/v1/releases/rollback", {"to": to, "force": force}, idempotency_key), Release.from_dict)


def delete_release(release_id: str) -> Call[None]:
    """Delete a release that is not current and that no unfinished job needs."""
    return Call(Request("DELETE", f"/v1/releases/{release_id}"), lambda _: None)


def models() -> Call[list[Model]]:
    """The base model, `auto`, and every label of the current release."""
    return Call(Request("GET", "/v1/models"), lambda raw: [Model.from_dict(item) for item in raw["data"]])


def adapters(label: str = "") -> Call[list[Adapter]]:
    """All adapters, or those of one label, by label and version."""
    return Call(Request("GET", "/v1/adapters", params={"label": label or None}), _items(Adapter))


def adapter(ref: str) -> Call[Adapter]:
    """One adapter: `label@n`, a label (its newest version) or a digest."""
    return Call(Request("GET", f"/v1/adapters/{ref}"), Adapter.from_dict)


def delete_adapter(ref: str) -> Call[None]:
    """Delete one version, `label@n`, that no release and no unfinished training names."""
    return Call(Request("DELETE", f"/v1/adapters/{ref}"), lambda _: None)


def datasets() -> Call[list[Dataset]]:
    """All data sets, oldest first."""
    return Call(Request("GET", "/v1/datasets"), _items(Dataset))


def delete_dataset(ref: str) -> Call[None]:
    """Delete a data set, by id or name, that no unfinished training needs; `feedback`: with all that was given."""
    return Call(Request("DELETE", f"/v1/datasets/{ref}"), lambda _: None)


def readiness() -> Call[dict[str, Any]]:
    """Every part of the system by name, ready or not."""
    return Call(Request("GET", "/readyz", accepted_status=503), dict)


def path_of(job: Job | str) -> str:
    """Where a job is found; a training job's own path asks for the scope `train` only."""
    is_training = isinstance(job, Job) and job.kind == "train"
    return f"/v1/training/jobs/{_id(job)}" if is_training else f"/v1/jobs/{_id(job)}"


def _id(job: Job | str) -> str:
    return job.id if isinstance(job, Job) else job


def _post(path: str, body: Any, idempotency_key: str | None) -> Request:
    return Request("POST", path, json=body, headers={IDEMPOTENCY_KEY: idempotency_key or new_key()})


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return uuid.uuid4().hex


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _items(kind: type[R]) -> Callable[[Any], list[R]]:
    return lambda raw: [kind.from_dict(item) for item in raw["items"]]
