"""The pieces of an attempt that need no server."""

import pytest

from shared.contracts.jobs import Job
from shared.errors import Cancelled
from shared.worker.event_writer import _joined
from shared.worker.leases import HeldJob


def job():
    fields = {
        "id": "j",
        "tenant_id": "t",
        "kind": "generate",
        "stage": "generate",
        "state": "running",
        "queue": "generate.g",
    }
    return Job(**fields, body={}, attempt=1, timestamps={})


def test_a_stop_calls_what_ends_the_work_once_and_the_first_reason_stays():
    held, calls = HeldJob(job()), []
    held.on_stop(lambda: calls.append("stopped"))
    held.stop("cancel")
    held.stop("drain")
    assert (calls, held.reason) == (["stopped"], "cancel")
    with pytest.raises(Cancelled):
        held.check()


def test_a_stop_that_came_first_reaches_work_that_begins_later():
    held, calls = HeldJob(job()), []
    held.stop("stale")
    held.on_stop(lambda: calls.append("stopped"))
    assert calls == ["stopped"]
    with pytest.raises(Cancelled):
        held.wait(60)


def test_neighbouring_pieces_of_one_attempts_text_are_joined_and_nothing_else():
    def token(job_id, text, attempt=1):
        return job_id, attempt, "token", {"text": text}

    step = ("a", 1, "progress", {"step": 1})
    batch = [token("a", "x"), token("b", "1"), token("a", "y"), step, token("a", "z"), token("a", "w", 2)]
    assert _joined(batch) == [token("a", "xy"), token("b", "1"), step, token("a", "z"), token("a", "w", 2)]
