"""Calls about what was said of finished jobs, and the rows that become of it."""

from dataclasses import dataclass
from typing import Any, ClassVar

from signalbox.call import Call, given, posted
from signalbox.calls import id_of
from signalbox.requests import Request
from signalbox.results import Job, Record


@dataclass(frozen=True, kw_only=True)
class LabelSaid(Record):
    """The newest label that a key gave a job."""

    label: str
    key: str = ""
    at: str = ""
    reviewed: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelConflict(Record):
    """A job about whose label keys differ."""

    _KINDS: ClassVar = {"said": LabelSaid}
    job: str
    said: list[LabelSaid]


@dataclass(frozen=True, kw_only=True)
class ConflictPage(Record):
    """Jobs that keys labelled differently, newest first; `next` is the `before` of the page after, None at the end."""

    _KINDS: ClassVar = {"items": LabelConflict}
    items: list[LabelConflict]
    next: str | None = None


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
    body = given({"label": label, "rating": rating, "output": output, "new": new, "accept": accept})
    return Call(posted(f"/v1/jobs/{id_of(job)}/feedback", body, idempotency_key), lambda _: None)


def delete_feedback(job: Job | str) -> Call[None]:
    """Forget all feedback on a job, and what of it joined the training data."""
    return Call(Request("DELETE", f"/v1/jobs/{id_of(job)}/feedback"), lambda _: None)


def take_back_feedback(job: Job | str) -> Call[None]:
    """Take back this key's own feedback on a job, where nobody said anything since."""
    return Call(Request("DELETE", f"/v1/jobs/{id_of(job)}/feedback/last"), lambda _: None)


def feedback_dataset(*, dry_run: bool = False, safe: bool = False) -> Call[dict[str, Any]]:
    """Make a version of the data set `feedback` of what reviewers said by now, or count its rows.

    With `safe`, only of rows that may train unseen.
    """
    return Call(posted("/v1/feedback/dataset", {"dry_run": dry_run, "safe": safe}, None), dict)


def feedback_conflicts(*, before: str | None = None, limit: int = 50) -> Call[ConflictPage]:
    """Jobs to which keys gave different labels, newest first; they train nothing until a reviewer settles it."""
    request = Request("GET", "/v1/feedback/conflicts", params={"before": before, "limit": limit})
    return Call(request, ConflictPage.from_dict)
