"""Whether a job's stream of events tells one story: nothing twice, nothing of an attempt that had lost the job."""

from itertools import pairwise
from typing import Any

from tests.chaos.world import FINAL, Event

_NEXT = {
    "": {"queued", "routed"},
    "queued": {"selecting", "running"},
    "selecting": {"queued", "routed"},
    "routed": {"running"},
    "running": {"routed", "queued"},
}


def faults_of(events: list[Event], result: dict[str, Any] | None) -> list[str]:
    """What is wrong with an ended job's events, beside the `result` that it shows; empty where nothing is."""
    found = []
    states = [event.state for event in events if event.state]
    finals = [state for state in states if state in FINAL]
    if len(finals) != 1:
        found.append(f"{len(finals)} final events")
    if not events or not events[-1].state or events[-1].state not in FINAL:
        found.append("events after the end")
    if any(new not in _NEXT.get(old, set()) | FINAL for old, new in pairwise(["", *states])):
        found.append(f"states {states}")
    if result is not None and streamed(events) != result["text"]:
        found.append("the text of the last attempt is not the result's")
    if any(event.type == "token" for event in before_running(events)):
        found.append("text of an attempt that had lost the job")
    return found


def streamed(events: list[Event]) -> str:
    """What was streamed by the last attempt: all text after the last `running`."""
    starts = [number for number, event in enumerate(events) if event.state == "running"]
    return "".join(e.data["text"] for e in events[starts[-1] if starts else 0 :] if e.type == "token")


def before_running(events: list[Event]) -> list[Event]:
    """Events that came while no attempt ran."""
    found, runs = [], False
    for event in events:
        runs = event.state == "running" if event.state else runs
        if not runs:
            found.append(event)
    return found


def runs_of(events: list[Event]) -> int:
    """How many generation attempts began."""
    return sum(event.state == "running" for event in events)
