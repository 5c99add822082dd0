"""Jobs that wait for others: as many as may be submitted, all end as they should, and no call goes through many."""

import pytest

from shared.contracts.jobs import MAX_BEFORE, MAX_DEPENDENTS, JobKind, JobState, NewJob, Stage, new_job_id
from shared.errors import Conflict
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.ledger.script import SETTLED_AT_ONCE
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.queue.reconciler import Reconciler


def job_after(*after):
    return NewJob(
        id=new_job_id("t"), tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={}, after=after
    )


@pytest.fixture
def new(ledger):
    def new(*after):
        job = job_after(*after)
        ledger.do(calls.create(job, 60))
        return job.id

    return new


@pytest.fixture
def chain(new):
    """As many jobs as may stand in a row, each after the one before."""
    jobs = [new()]
    for _ in range(MAX_BEFORE):
        jobs.append(new(jobs[-1]))
    return jobs


@pytest.fixture
def fan(ledger, new):
    """A job, and as many after it as may be, in one round trip."""
    first = new()
    jobs = [job_after(first) for _ in range(MAX_DEPENDENTS)]
    with ledger.redis.pipeline(transaction=False) as pipeline:
        for job in jobs:
            call = calls.create(job, 60)
            pipeline.evalsha(ledger._scripts(call.op).sha, 0, calls.base.dump(call.args))
        pipeline.execute()
    return [first, *(job.id for job in jobs)]


@pytest.fixture
def reconciler(ledger, settings):
    return Reconciler(ledger, Bus(make_celery(settings, "test")), settings, "me")


def states(ledger, jobs):
    with ledger.redis.pipeline(transaction=False) as pipeline:
        for job_id in jobs:
            pipeline.hget(LedgerKey.JOB.of(job_id), "state")
        return [JobState(state) for state in pipeline.execute()]


def in_parts(ledger, jobs, before, after):
    """Settle call by call; answers how many jobs each call took from one state to another."""
    counts, more = [states(ledger, jobs).count(after)], True
    while more:
        more = ledger.do(calls.settle()).more
        counts.append(states(ledger, jobs).count(after))
    assert states(ledger, jobs).count(before) == 0
    return [now - earlier for earlier, now in zip([0, *counts], counts, strict=False)]


def nothing_is_left(ledger):
    left = [
        key
        for name in (LedgerKey.AFTER, LedgerKey.BLOCKERS, LedgerKey.SETTLING)
        for key in ledger.redis.scan_iter(name.pattern)
    ]
    return left == []


def test_a_chain_whose_first_job_is_cancelled_fails_to_its_end_in_bounded_parts(ledger, chain):
    ledger.do(calls.cancel(chain[0], "t"))
    parts = in_parts(ledger, chain[1:], JobState.QUEUED, JobState.FAILED)
    assert sum(parts) == MAX_BEFORE
    assert max(parts) <= SETTLED_AT_ONCE
    last = ledger.do(calls.get(chain[-1]))
    assert (last.error["code"], chain[-2] in last.error["detail"]) == ("dependency_failed", True)
    assert nothing_is_left(ledger)


def test_all_jobs_after_one_are_let_go_in_bounded_parts(ledger, fan):
    job = ledger.do(calls.acquire_next("train", "w", 60))
    sent = ledger.do(calls.finish(job, JobState.SUCCEEDED))
    parts = [len(sent)]
    while (settled := ledger.do(calls.settle())).released:
        sent += settled.released
        parts.append(len(settled.released))
    assert max(parts) <= SETTLED_AT_ONCE
    assert sorted(one.job_id for one in sent) == sorted(fan[1:])
    assert ledger.redis.zcard(LedgerKey.WAITING.of("train")) == MAX_DEPENDENTS
    assert nothing_is_left(ledger)


@pytest.mark.parametrize("shape", ["chain", "fan"])
def test_the_reconciler_leaves_none_queued_behind_a_job_that_failed(ledger, reconciler, request, shape):
    first, *others = request.getfixturevalue(shape)
    job = ledger.do(calls.acquire(first, "train", "w", 60))
    ledger.do(calls.finish(job, JobState.FAILED))
    assert JobState.QUEUED in states(ledger, others)
    reconciler.round()
    assert set(states(ledger, others)) == {JobState.FAILED}
    assert nothing_is_left(ledger)


def test_one_more_job_in_a_chain_is_refused_until_some_of_it_have_ended(ledger, new, chain):
    with pytest.raises(Conflict, match=f"more than {MAX_BEFORE} jobs would have to end") as refusal:
        new(chain[-1])
    assert refusal.value.code == "too_many_before"
    job = ledger.do(calls.acquire_next("train", "w", 60))
    assert [sent.job_id for sent in ledger.do(calls.finish(job, JobState.SUCCEEDED))] == [chain[1]]
    new(chain[-1])


def test_one_more_job_after_the_same_is_refused_until_one_of_them_has_gone(ledger, new, fan):
    with pytest.raises(Conflict, match=f"{MAX_DEPENDENTS} jobs wait for job {fan[0]} already") as refusal:
        new(fan[0])
    assert refusal.value.code == "too_many_dependents"
    ledger.do(calls.cancel(fan[1], "t"))
    new(fan[0])


def test_a_running_job_that_waits_for_very_many_waits_for_them_in_turns(ledger, new):
    many = [new() for _ in range(MAX_BEFORE + 10)]
    waiter, rounds = new(), 0
    while True:
        job = ledger.do(calls.acquire(waiter, "train", "w", 60))
        if ledger.do(calls.wait_for(job, many)):
            break
        rounds += 1
        for blocker in ledger.redis.smembers(LedgerKey.BLOCKERS.of(waiter)):
            ledger.do(calls.cancel(blocker, "t"))
    assert rounds == 2
    assert set(states(ledger, many)) == {JobState.CANCELLED}


@pytest.mark.slow
def test_more_jobs_after_one_than_may_be_submitted_are_settled_too(ledger, new):
    """They come from running jobs that wait, and from earlier versions."""
    first, waiters = new(), [new() for _ in range(MAX_DEPENDENTS + 50)]
    for waiter in waiters:
        ledger.do(calls.wait_for(ledger.do(calls.acquire(waiter, "train", "w", 60)), [first]))
    ledger.do(calls.cancel(first, "t"))
    while ledger.do(calls.settle()).more:
        pass
    assert ledger.redis.zcard(LedgerKey.WAITING.of("train")) == len(waiters)


def test_a_dead_letter_is_not_replayed_while_what_waited_for_it_is_ended(ledger, fan):
    for _ in range(3):
        ledger.do(calls.acquire(fan[0], "train", "w", 0))
        ledger.do(calls.expire("train"))
    with pytest.raises(Conflict, match="try again in a moment"):
        ledger.do(calls.replay(fan[0], "t"))
    while ledger.do(calls.settle()).more:
        pass
    assert ledger.do(calls.replay(fan[0], "t")).job_id == fan[0]
    assert set(states(ledger, fan[1:])) == {JobState.FAILED}


def test_a_job_that_waits_for_others_is_not_taken_by_its_name(ledger, new):
    later = new(new())
    with pytest.raises(Conflict, match="is waiting"):
        ledger.do(calls.acquire(later, "train", "w", 60))
