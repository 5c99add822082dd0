"""Feedback on a finished job: what everybody said of it, in order, and what of that joins the training data."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from services.api.infra.clients import Clients
from services.api.jobs.accept import TRIES
from services.api.jobs.schemas import LabelText, Request
from shared.contracts.generation import generation_result, select_body, selection_of
from shared.contracts.jobs import Job, JobKind, ListedJob
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.rows import Row, RowSource
from shared.errors import Conflict, Invalid, Unavailable
from shared.ledger import calls
from shared.security.api_keys import Key, Scope

Entry = Mapping[str, Any]
"""One feedback: its fields, the `key` that gave it, `at`, and whether it is `reviewed`."""
_FIELDS = ("label", "rating", "output")
MAX_HISTORY_CHARS = 100_000


def _well_formed(label: str) -> str:
    return str(parse_label(label))


class FeedbackRequest(Request):
    """Feedback on a finished job: the right label, a rating, the right output, a review; at least one of them.

    A field that is left out stays as it was.
    """

    label: Annotated[LabelText, AfterValidator(_well_formed)] | None = None
    new: bool = False
    """Whether `label` may be one that the current release lacks."""
    rating: Literal[-1, 0, 1] | None = None
    """-1 wrong, 0 neither, 1 right."""
    output: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    accept: bool | None = None
    """Whether all that was said of the job, this included, joins the data set; it needs the scope `review`."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.label is None and self.rating is None and self.output is None and self.accept is None:
            raise ValueError("give at least one of label, rating, output and accept")
        return self


async def give_feedback(clients: Clients, caller: Key, job_id: str, feedback: FeedbackRequest) -> dict[str, Any]:
    """Add feedback to a job's history, and what is reviewed to the data set; returns the job's feedback as it is now.

    Raises `NotFound`; `Conflict` `job_unfinished`, `feedback_full`; `Invalid` `label_unknown`, `feedback_unsupported`;
    `Denied` where the key may not accept; `TooMany`.
    """
    if feedback.accept is not None:
        caller.check(Scope.REVIEW)
    if not caller.may(Scope.REVIEW):
        await clients.quotas.count_feedback(caller)
    if feedback.output:
        await clients.quotas.count_tokens(caller, feedback.output)
    await _check_label(clients, caller, feedback)

    def added(job: Job) -> list[Entry]:
        history = [*history_of(job), _entry(caller, feedback)]
        _check_room(clients, job, history)
        return history

    return await _change(clients, caller, job_id, added)


async def take_back(clients: Clients, caller: Key, job_id: str) -> dict[str, Any]:
    """Take back the key's own feedback on a job, the newest one; returns the job's feedback as it is then.

    Raises `NotFound`; `Conflict` `feedback_not_last` where the newest feedback is another key's, or there is none.
    """

    def shortened(job: Job) -> list[Entry]:
        *before, last = history_of(job) or [{}]
        if last.get("key") != caller.id:
            raise Conflict(
                "feedback_not_last",
                f"the newest feedback on job {job.id} is not this key's; "
                "delete all of it: `signalbox jobs feedback ID --forget`",
            )
        return before

    return await _change(clients, caller, job_id, shortened)


async def _change(
    clients: Clients, caller: Key, job_id: str, change: Callable[[Job], Sequence[Entry]]
) -> dict[str, Any]:
    """Write a job's history as `change` makes it, and the row that follows from it; returns the feedback then."""
    line = "" if caller.may(Scope.REVIEW) else caller.sees
    budget = await clients.room.budget(caller.tenant_id)
    for _ in range(TRIES):
        job = await clients.ledger.do(calls.get(job_id, caller.tenant_id, line))
        before, history = len(history_of(job)), change(job)
        conflict = bool(conflict_of(history))
        fields = {} if conflict else taken(history, clients.settings.feedback_agreement)
        row, source = _row(job, fields), source_of(job, history, fields)
        value = {**merged(history), "history": history}
        call = calls.feedback(
            job_id,
            caller.tenant_id,
            value,
            row,
            before=before,
            after=len(history),
            source=source,
            conflict=conflict,
            budget=budget,
        )
        try:
            await clients.ledger.do(call)
        except Conflict as error:
            if error.code != "feedback_moved":
                raise
        else:
            return value
    raise Unavailable("feedback_moving", "others give feedback on this job; try again shortly", retry_after_seconds=1)


def history_of(job: ListedJob) -> list[Entry]:
    """Return all feedback on a job, oldest first; one from before histories were kept counts as reviewed."""
    if not job.feedback:
        return []
    return list(job.feedback.get("history", [{**job.feedback, "reviewed": True}]))


def merged(history: Sequence[Entry]) -> dict[str, Any]:
    """Return the newest value of each field, and the key that gave feedback last."""
    return {name: entry[name] for entry in history for name in (*_FIELDS, "key") if name in entry}


def conflict_of(history: Sequence[Entry]) -> list[Entry]:
    """Return the newest label of each key where these differ and nobody has settled it; empty elsewhere.

    A reviewer settles it by `accept`, or by a label after those that differ. A reviewer's label corrects those of keys
    that may not review, which count no more then: none of them can take away what a reviewer gave.
    """
    standing: dict[str, Entry] = {}
    is_judged = False
    for entry in history:
        if entry.get("accept") is not None:
            standing, is_judged = {}, True
        elif "label" in entry and (entry["reviewed"] or not is_judged):
            if entry["reviewed"] and (not is_judged or _differ(standing)):
                standing = {}
            is_judged = is_judged or entry["reviewed"]
            standing[entry.get("key", "")] = entry
    return list(standing.values()) if _differ(standing) else []


def _differ(standing: Mapping[str, Entry]) -> bool:
    return len({entry["label"] for entry in standing.values()}) > 1


def taken(history: Sequence[Entry], agreement: int) -> dict[str, Any]:
    """Return the fields that may train: what a reviewer gave or accepted, else what so many keys agree on (0: none)."""
    reviewed: dict[str, Any] = {}
    for number, entry in enumerate(history, start=1):
        if entry.get("accept") is False:
            reviewed = {}
        elif entry.get("accept"):
            reviewed = merged(history[:number])
        elif entry["reviewed"]:
            reviewed |= merged([entry])
    if any(entry["reviewed"] for entry in history) or not agreement:
        return reviewed
    return {name: value for name in _FIELDS if (value := _agreed(history, name, agreement)) is not None}


def _agreed(history: Sequence[Entry], name: str, agreement: int) -> Any:
    """Return the value that most keys gave last, where there are enough of them."""
    last = {entry["key"]: entry[name] for entry in history if name in entry}
    value, count = Counter(last.values()).most_common(1)[0] if last else (None, 0)
    return value if count >= agreement else None


def feedback_row(job: Job, fields: Mapping[str, Any]) -> Row:
    """Return the data-set row for feedback: the job's text with the right label and output."""
    body, selection = select_body(job), selection_of(job)
    # An answer that follows from what tools said would teach to make it up.
    is_own = not body.has_tool_turns
    label = job.label or (selection.label if selection else None)
    is_right = fields.get("rating") == 1
    return Row(
        input=body.last_user_text,
        instruction=body.system_text,
        output=fields.get("output") or (is_right and is_own and _answer(job)) or "",
        label=fields.get("label") or (is_right and label) or "",
    )


def source_of(job: Job, history: Sequence[Entry], fields: Mapping[str, Any]) -> RowSource:
    """Return whose job a row is from, and which keys gave or accepted what stands in it."""
    said = [
        one for one in history if one.get("accept") or any(one.get(name) == fields.get(name) for name in _said(one))
    ]
    return RowSource(
        said_by=tuple(dict.fromkeys(one["key"] for one in said if "key" in one)),
        at=max((one.get("at", "") for one in said), default=""),
        line=job.key_line,
        user=job.body.get("user") or "",
        conversation=job.conversation,
        reviewed=any(one["reviewed"] for one in said),
        agreed=min((len(_keys_for(history, name, fields[name])) for name in _FIELDS if name in fields), default=0),
    )


def _keys_for(history: Sequence[Entry], name: str, value: Any) -> set[str]:
    """Return the keys whose newest word on a field is this value."""
    last = {entry.get("key", ""): entry[name] for entry in history if name in entry}
    return {key for key, said in last.items() if said == value}


def _said(entry: Entry) -> list[str]:
    return [name for name in _FIELDS if name in entry]


def _row(job: Job, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    if job.kind is JobKind.TRAIN:
        raise Invalid("feedback_unsupported", "a training job has no answer to judge; give feedback on other jobs")
    return feedback_row(job, fields).model_dump(exclude_defaults=True) if fields else None


def _answer(job: Job) -> str | None:
    result = generation_result(job) if job.kind is JobKind.GENERATE else None
    return result.text if result else None


def _entry(caller: Key, feedback: FeedbackRequest) -> Entry:
    given = feedback.model_dump(mode="json", exclude_none=True, exclude={"new"})
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {**given, "key": caller.id, "at": now, "reviewed": caller.may(Scope.REVIEW)}


async def _check_label(clients: Clients, caller: Key, feedback: FeedbackRequest) -> None:
    if feedback.label in (None, BACKGROUND) or feedback.new:
        return
    try:
        known = (await clients.releases.current(caller.tenant_id)).release.labels
    except Conflict:
        known = {}
    if feedback.label not in known:
        raise Invalid(
            "label_unknown",
            f"the current release has no label {feedback.label!r}; send new: true with it if it is meant as a new one",
        )


def _check_room(clients: Clients, job: Job, history: Sequence[Entry]) -> None:
    most = clients.settings.max_feedback_per_job
    chars = sum(len(entry.get("output", "")) for entry in history)
    if len(history) > most or chars > MAX_HISTORY_CHARS:
        raise Conflict(
            "feedback_full",
            f"job {job.id} has {len(history) - 1} feedbacks; {most} are taken, {MAX_HISTORY_CHARS} in all: leave it",
        )
