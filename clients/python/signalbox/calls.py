"""Calls about jobs, and of any path. Both clients take their methods from here and from `stored`."""

from collections.abc import Mapping, Sequence
from typing import Any

from signalbox.call import Call, given, posted
from signalbox.chat import Messages
from signalbox.errors import JobFailed
from signalbox.estimate import TrainingEstimate
from signalbox.requests import Request
from signalbox.results import Job, Page, Selection


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
    input: Messages,
    *,
    instruction: str = "",
    label: str | None = None,
    adapter: str | None = None,
    max_new_tokens: int | None = None,
    params: Mapping[str, Any] | None = None,
    priority: str | None = None,
    deadline_seconds: float | None = None,
    metadata: Mapping[str, str] | None = None,
    user: str | None = None,
    explain: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Submit one text or conversation (`role` and `content` of each turn); the job is stored when this returns.

    Without `label` and `adapter` the selector decides. `params` are those of the generation (temperature, seed, …).
    Of `user`, the id of your own user, a hash is kept (see `forget_user`). With `explain` the job keeps the
    probabilities of all labels, the nearest rows of the training data, and the prompt.
    The same `idempotency_key` and text make one job; without one, each call makes its own job, however often it is
    retried.
    """
    limit = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    body = {
        **_conversation(input, instruction),
        "label": label,
        "adapter": adapter,
        "params": {**limit, **(params or {})} or None,
        "priority": priority,
        "deadline_seconds": deadline_seconds,
        "metadata": metadata,
        "user": user,
        "explain": explain,
    }
    return Call(posted("/v1/jobs", given(body), idempotency_key), Job.from_dict)


def _conversation(given: Messages, instruction: str) -> dict[str, Any]:
    """A text with its instruction, or a conversation, which has its own."""
    text = {"input": given} if isinstance(given, str) else {"messages": list(given)}
    return {**text, "instruction": instruction or None}


def select(
    input: Messages,
    *,
    instruction: str = "",
    wait_seconds: float = 10.0,
    explain: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Selection | Job]:
    """The request behind `select`: a selection, or its job where it takes longer than `wait_seconds`."""
    body = {**_conversation(input, instruction), "wait_seconds": wait_seconds, "explain": explain}
    return Call(posted("/v1/select", given(body), idempotency_key), _selection_or_job)


def _selection_or_job(raw: Mapping[str, Any]) -> Selection | Job:
    return Job.from_dict(raw) if "events_url" in raw else Selection.from_dict(raw)


def selection_of(job: Job) -> Selection:
    """What a selection job found; raises `JobFailed`."""
    if job.selection is None:
        error = job.error or {"code": f"job_{job.state}", "detail": f"selection {job.id} was {job.state}; ask again"}
        raise JobFailed(str(error["code"]), str(error["detail"]), body=job.to_dict())
    return job.selection


def train(kind: str, *, idempotency_key: str | None = None, **settings: Any) -> Call[Job]:
    """Queue a training job: `train("adapter.train", label="bank.cards", dataset="rows")`.

    `settings` are the body's other members; the API's page `/docs` lists them for each kind.
    """
    return Call(posted("/v1/training/jobs", {"kind": kind, **settings}, idempotency_key), Job.from_dict)


def compose(
    label: str,
    parts: Sequence[str] | Mapping[str, float],
    *,
    method: str | None = None,
    rank: int | None = None,
    density: float | None = None,
    dataset: str | None = None,
    unjudged: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Queue the composition of adapters, or of adapters with weights, to the next version of a label.

    `dataset` has the validation rows that judge it; `unjudged=True` publishes it without. By default it is their exact
    sum; `method` svd, ties or dare_ties merges them to `rank`.
    """
    weighted = parts.items() if isinstance(parts, Mapping) else [(ref, 1.0) for ref in parts]
    body = {
        "label": label,
        "parts": [{"adapter": ref, "weight": weight} for ref, weight in weighted],
        "method": method,
        "rank": rank,
        "density": density,
        "dataset": dataset,
        "unjudged": unjudged,
    }
    return train("adapter.compose", idempotency_key=idempotency_key, **given(body))


def estimate(kind: str, **settings: Any) -> Call[TrainingEstimate]:
    """What a training job would take; the arguments are those of `train`."""
    return Call(posted("/v1/training/jobs/estimate", {"kind": kind, **settings}, None), TrainingEstimate.from_dict)


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
    disputed: bool | None = None,
    feedback: bool | None = None,
    key: str | None = None,
    user: str | None = None,
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
        "disputed": disputed,
        "feedback": feedback,
        "key": key,
        "user": user,
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


def again(
    job: Job | str,
    *,
    label: str | None = None,
    release: str | None = None,
    explain: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Ask again what a job asked, as a new job: of another `label` (or `base`, `auto`), or under another `release`.

    Only the current release and the one before it answer.
    """
    body = given({"label": label, "release": release, "explain": explain})
    return Call(posted(f"/v1/jobs/{id_of(job)}/again", body, idempotency_key), Job.from_dict)


def replay(job: Job | str, *, idempotency_key: str | None = None) -> Call[Job]:
    """Run a dead letter again, as the same job."""
    return Call(posted(f"/v1/jobs/{id_of(job)}/replay", None, idempotency_key), Job.from_dict)


def drop(job: Job | str) -> Call[None]:
    """Drop a dead letter: it is kept no longer than any other ended job."""
    return Call(Request("DELETE", f"/v1/jobs/dead/{id_of(job)}"), lambda _: None)


def forget_user(
    user: str | None = None,
    *,
    user_hash: str | None = None,
    key: str | None = None,
    conversation_id: str | None = None,
    job_id: str | None = None,
    dry_run: bool = False,
) -> Call[dict[str, Any]]:
    """Forget, or count, what is kept of one of your users, of all that a key sent, of a conversation, or of a job.

    The hash of a user is what `jobs(user=…)` takes.
    """
    whom = {"user": user, "user_hash": user_hash, "key": key, "conversation_id": conversation_id, "job_id": job_id}
    return Call(posted("/v1/users/forget", given(whom) | {"dry_run": dry_run}, None), dict)


def replay_dead(*, idempotency_key: str | None = None) -> Call[int]:
    """Run all dead letters again; returns how many."""
    return Call(posted("/v1/jobs/dead/replay", None, idempotency_key), lambda raw: int(raw["replayed"]))


def readiness() -> Call[dict[str, Any]]:
    """Every part of the system by name, ready or not."""
    return Call(Request("GET", "/readyz", accepted_status=503), dict)


def path_of(job: Job | str) -> str:
    """Where a job is found; a training job's own path asks for the scope `train` only."""
    is_training = isinstance(job, Job) and job.kind == "train"
    return f"/v1/training/jobs/{id_of(job)}" if is_training else f"/v1/jobs/{id_of(job)}"


def id_of(job: Job | str) -> str:
    """The id of a job, or of a job's id."""
    return job.id if isinstance(job, Job) else job
