"""What a tenant sees of its queues and of who serves them."""

from itertools import pairwise

import pytest

from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import calls
from shared.ledger.calls import Track
from tests.support.eventually import eventually


@pytest.fixture
def new(ledger):
    """Create a job of a tenant in a queue; answers its id."""

    def new(tenant, queue="generate.bank", **body):
        job_id = new_job_id(tenant)
        stage = Stage(queue.partition(".")[0])
        body = {"input": "x", **body}
        job = NewJob(id=job_id, tenant_id=tenant, kind=JobKind.GENERATE, stage=stage, queue=queue, body=body)
        ledger.do(calls.create(job, 60))
        return job_id

    return new


def track(ledger, tenant, queue="generate.bank"):
    return next(one for one in ledger.do(calls.board(tenant, 3)).tracks if one.queue == queue)


def test_a_tenant_sees_its_own_jobs_alone(ledger, new):
    for tenant in ("t", "t", "other"):
        new(tenant)
    new("t", priority="batch")
    assert track(ledger, "t").waiting == 3
    ledger.do(calls.acquire_next("generate.bank", "w", 60))
    ledger.do(calls.acquire_next("generate.bank", "w", 60))
    mine, theirs = track(ledger, "t"), track(ledger, "other")
    assert (mine.waiting + mine.running, theirs.waiting + theirs.running) == (3, 1)
    assert mine.running + theirs.running == 2


def test_what_waits_for_workers_of_one_base_counts_in_its_queue(ledger, new):
    new("t")
    new("t", "generate.bank@pin")
    ledger.do(calls.heartbeat("w", ["generate.bank", "generate.bank@pin"], [], {"resident": ["d"]}, 60))
    board = ledger.do(calls.board("t", 3))
    assert Track("generate.bank", 2, 0, ("w",)) in board.tracks
    assert board.workers == {"w": {"resident": ["d"]}}


def test_a_worker_whose_presence_has_ended_serves_nothing(ledger, new):
    new("t")
    ledger.do(calls.heartbeat("w", ["generate.bank"], [], {}, 0.001))
    eventually(lambda: track(ledger, "t").workers == (), "the presence of a millisecond ends")


def test_jobs_are_counted_in_the_minute_of_their_creation(ledger, new):
    new("t")
    new("t")
    new("other")
    came = ledger.do(calls.board("t", 3)).came
    assert len(came) == 3
    assert sum(count for _, count in came) == 2
    assert [later - earlier for (earlier, _), (later, _) in pairwise(came)] == [60_000, 60_000]
