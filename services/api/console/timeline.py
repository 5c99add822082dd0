"""What happened to a job, step by step, from its events."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from services.api.infra.event_feed import Event
from shared.contracts.jobs import JobState

MOST_EVENTS = 2_000
"""Events that a page reads of a job; the pieces of a long answer may be more."""
_ATTEMPTS = (JobState.SELECTING, JobState.RUNNING)
_MARKS = {JobState.SUCCEEDED: "good", JobState.FAILED: "bad", JobState.REJECTED: "bad", JobState.CANCELLED: "bad"}


Notes = Mapping[JobState, str]
"""What a job itself tells of a state, beside its events."""


class Step(NamedTuple):
    """One thing that happened, and when, in milliseconds: since 1970, and since the step before."""

    at_ms: float
    after_ms: float
    title: str
    detail: str = ""
    mark: str = ""


class Timeline(NamedTuple):
    """The steps; `pieces` counts those of the answer, and `is_cut` says that later events were not read."""

    steps: list[Step]
    pieces: int
    is_cut: bool


async def read_timeline(events: AsyncIterator[Event], notes: Notes) -> Timeline:
    """Return what the events tell, up to a number of them."""
    read: list[Event] = []
    async for event in events:
        if len(read) == MOST_EVENTS:
            return timeline(read, notes, is_cut=True)
        read.append(event)
    return timeline(read, notes)


def timeline(events: Sequence[Event], notes: Notes = MappingProxyType({}), *, is_cut: bool = False) -> Timeline:
    """Return what the events tell."""
    steps: list[Step] = []
    pieces, attempt, begun = 0, 0, set[int]()
    last: JobState | None = None
    for event in events:
        at_ms, data = float(event.id.partition("-")[0]), json.loads(event.data)
        after_ms = at_ms - steps[-1].at_ms if steps else 0.0
        if event.type == "state":
            state = JobState(data["state"])
            attempt += state in _ATTEMPTS
            title, detail = _told(state, last, attempt, data)
            steps.append(Step(at_ms, after_ms, title, detail or notes.get(state, ""), _MARKS.get(state, "")))
            last = state
        elif event.type == "restart":
            why = "the attempt before lost its lease, or gave the job back"
            steps.append(Step(at_ms, after_ms, f"Try {data['try']} begins the answer anew", why))
        elif event.type in ("token", "tool_call"):
            pieces += 1
            if attempt not in begun:
                begun.add(attempt)
                steps.append(Step(at_ms, after_ms, "The answer begins to come"))
    return Timeline(steps, pieces, is_cut)


def _told(state: JobState, last: JobState | None, attempt: int, data: dict[str, Any]) -> tuple[str, str]:
    """Return what a state means after the one before, and what is known of it."""
    label, error = data.get("label") or "", data.get("error") or {}
    if state in (JobState.QUEUED, JobState.ROUTED) and last in _ATTEMPTS and not _goes_on(state, last):
        return "It waits again", "the attempt ended without the job: its lease ran out, or its process ended"
    found: dict[JobState, tuple[str, str]] = {
        JobState.QUEUED: ("It was accepted", "it waits for the selector"),
        JobState.SELECTING: (f"Attempt {attempt}: a selector reads it", ""),
        JobState.ROUTED: _routed(last, label),
        JobState.RUNNING: (f"Attempt {attempt}: a worker generates", ""),
        JobState.SUCCEEDED: ("It is done", ""),
        JobState.FAILED: ("It failed", str(error.get("detail", ""))),
        JobState.REJECTED: ("It was rejected", str(error.get("detail", ""))),
        JobState.CANCELLED: ("It was cancelled", ""),
    }
    return found[state]


def _goes_on(state: JobState, last: JobState) -> bool:
    return state is JobState.ROUTED and last is JobState.SELECTING


def _routed(last: JobState | None, label: str) -> tuple[str, str]:
    to = label or "the base model"
    if last is None:
        return "It was accepted", "the request names who answers; it waits for a worker"
    return f"It was routed to {to}", ""
