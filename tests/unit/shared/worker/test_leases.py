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


def test_pieces_of_each_choice_are_joined_with_their_log_probabilities():
    def token(text, index, *ids):
        logprobs = {"token_ids": list(ids), "logprobs": [-1.0] * len(ids), "token_bytes": ["61"] * len(ids), "top": []}
        return "a", 1, "token", {"text": text, "index": index, "logprobs": logprobs}

    restart = ("a", 1, "restart", {"try": 2})
    batch = [token("x", 0, 1), token("1", 1, 7), token("y", 0, 2, 3), token("2", 1), restart, token("z", 0, 4)]
    assert _joined(batch) == [token("xy", 0, 1, 2, 3), token("12", 1, 7), restart, token("z", 0, 4)]


def test_a_piece_without_an_index_is_of_the_first_choice():
    batch = [("a", 1, "token", {"text": "x"}), ("a", 1, "token", {"text": "y", "index": 0})]
    assert _joined(batch) == [("a", 1, "token", {"text": "xy"})]
