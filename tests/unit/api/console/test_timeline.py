"""Steps of a job, from its events."""

import json

import pytest

from services.api.console.timeline import MOST_EVENTS, read_timeline, timeline
from services.api.infra.event_feed import Event
from shared.contracts.jobs import JobState


def events(*told):
    return [Event(f"{1000 + 10 * n}-0", kind, json.dumps(data)) for n, (kind, data) in enumerate(told)]


def state(name, **data):
    return "state", {"state": name, **data}


TOKEN = ("token", {"text": "a", "attempt": 2})
WHOLE = [state("queued"), state("selecting"), state("routed", label="fin.sa"), state("running"), TOKEN, TOKEN]


def titles(found):
    return [step.title for step in found.steps]


def test_a_routed_job_is_told_stage_by_stage():
    found = timeline(events(*WHOLE, state("succeeded")))
    assert titles(found) == [
        "It was accepted",
        "Attempt 1: a selector reads it",
        "It was routed to fin.sa",
        "Attempt 2: a worker generates",
        "The answer begins to come",
        "It is done",
    ]
    assert [step.after_ms for step in found.steps] == [0, 10, 10, 10, 10, 20]
    assert (found.pieces, found.steps[-1].mark) == (2, "good")


def test_a_lost_attempt_says_so_and_the_next_one_begins_anew():
    lost = [state("routed"), state("running"), ("restart", {"try": 2})]
    found = timeline(events(*WHOLE, *lost, TOKEN, state("failed", error={"detail": "no <memory>"})))
    assert titles(found)[5:] == [
        "It waits again",
        "Attempt 3: a worker generates",
        "Try 2 begins the answer anew",
        "The answer begins to come",
        "It failed",
    ]
    assert (found.steps[-1].detail, found.steps[-1].mark) == ("no <memory>", "bad")


def test_a_named_label_waits_for_its_worker_at_once():
    assert "names who answers" in timeline(events(state("routed"))).steps[0].detail


def test_what_the_job_tells_of_a_state_stands_beside_it():
    notes = {JobState.ROUTED: "decided by the light selector alone"}
    assert timeline(events(*WHOLE), notes).steps[2].detail == notes[JobState.ROUTED]


@pytest.mark.parametrize(("count", "is_cut"), [(MOST_EVENTS - 1, False), (2 * MOST_EVENTS, True)])
async def test_a_long_answer_is_read_up_to_a_bound(count, is_cut):
    async def endless():
        for event in events(state("running"), *[TOKEN] * count):
            yield event

    found = await read_timeline(endless(), {})
    assert (found.pieces, found.is_cut) == (MOST_EVENTS - 1, is_cut)
