"""A running job that waits for others: it holds no worker, and their end, however it comes, lets it go on."""

import pytest

from shared.contracts.jobs import JobKind, JobState, NewJob, Stage, new_job_id
from shared.errors import Conflict, StaleAttempt
from shared.ledger import calls
from shared.ledger.calls import CancelledMeanwhile, NotAcquired
from shared.ledger.keys import LedgerKey


@pytest.fixture
def do(ledger):
    return ledger.do


@pytest.fixture
def new(do):
    def new(*, tenant="t", after=()):
        job = NewJob(
            id=new_job_id(tenant),
            tenant_id=tenant,
            kind=JobKind.TRAIN,
            stage=Stage.TRAIN,
            queue="train",
            body={},
            after=after,
        )
        do(calls.create(job, 60))
        return job.id

    return new


@pytest.fixture
def take(do):
    return lambda job_id, lease=15.0: do(calls.acquire(job_id, "train", "w", lease))


def end(do, job, state=JobState.SUCCEEDED):
    return [sent.job_id for sent in do(calls.finish(job, state))]


def waiting(ledger):
    return ledger.redis.zrange(LedgerKey.WAITING.of("train"), 0, -1)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_it_goes_on_when_the_last_of_them_has_ended_however_it_ended(ledger, do, new, take, state):
    first, second, waiter = new(), new(), new()
    one, two, job = take(first), take(second), take(waiter)
    assert do(calls.wait_for(job, [first, second])) is None
    seen = do(calls.get(waiter))
    assert (seen.state, seen.stage, seen.lost_leases, seen.owner) == (JobState.QUEUED, Stage.TRAIN, 0, "")
    assert waiting(ledger) == []
    assert set(ledger.redis.zrange(LedgerKey.LEASED.of("train"), 0, -1)) == {first, second}
    assert end(do, one, state) == []
    assert end(do, two, state) == [waiter]
    assert waiting(ledger) == [waiter]
    assert take(waiter).attempt == 2


def test_where_all_have_ended_it_is_sent_at_once(ledger, do, new, take):
    other, waiter = new(), new()
    end(do, take(other))
    sent = do(calls.wait_for(take(waiter), [other, "job_that_never_was"]))
    assert sent == (waiter, "train")
    assert waiting(ledger) == [waiter]


def test_jobs_of_another_tenant_hold_nobody_up(do, new, take):
    stranger, waiter = new(tenant="other"), new()
    assert do(calls.wait_for(take(waiter), [stranger])).job_id == waiter


def test_a_message_from_before_finds_no_work_while_it_waits(do, new, take):
    other, waiter = new(), new()
    do(calls.wait_for(take(waiter), [other]))
    with pytest.raises(NotAcquired) as refusal:
        take(waiter)
    assert refusal.value.code == "job_waiting"


@pytest.mark.parametrize("through", [0, 1])
def test_it_cannot_wait_for_a_job_that_waits_for_it_itself_or_through_another(do, new, take, through):
    waiter = new()
    other = new(after=(waiter,))
    for _ in range(through):
        other = new(after=(other,))
    job = take(waiter)
    with pytest.raises(Conflict) as refusal:
        do(calls.wait_for(job, [other]))
    assert refusal.value.code == "wait_cycle"
    assert do(calls.get(waiter)).state is JobState.RUNNING  # nothing was written: the attempt goes on, or fails
    end(do, job)


def test_it_can_be_cancelled_while_it_waits(do, new, take):
    other, waiter = new(), new()
    running = take(other)
    do(calls.wait_for(take(waiter), [other]))
    assert do(calls.cancel(waiter, "t")) is JobState.CANCELLED
    assert end(do, running) == []
    assert do(calls.get(waiter)).state is JobState.CANCELLED


def test_a_cancel_that_came_before_ends_it_instead(do, new, take):
    other, waiter = new(), new()
    job = take(waiter)
    do(calls.cancel(waiter, "t"))
    with pytest.raises(CancelledMeanwhile):
        do(calls.wait_for(job, [other]))
    assert do(calls.get(waiter)).state is JobState.CANCELLED


def test_an_attempt_that_lost_the_job_cannot_make_it_wait(do, new, take):
    other, waiter = new(), new()
    old = take(waiter, lease=0)
    do(calls.expire("train"))
    take(waiter)
    with pytest.raises(StaleAttempt):
        do(calls.wait_for(old, [other]))
    assert do(calls.get(waiter)).state is JobState.RUNNING


def test_a_dead_letter_among_them_holds_nobody_up(ledger, do, new, take):
    poison, waiter = new(), new()
    job = take(waiter)
    for _ in range(2):
        take(poison, lease=0)
        do(calls.expire("train"))
    take(poison, lease=0)
    do(calls.wait_for(job, [poison]))
    do(calls.expire("train"))  # the third lost lease makes a dead letter of it
    assert do(calls.get(poison)).error["code"] == "attempts_exhausted"
    assert waiting(ledger) == [waiter]  # the reconciler finds what nobody sent


def test_a_job_of_an_earlier_version_says_its_stage_by_its_queue(ledger, do):
    for queue, stage in (("select", "select"), ("train", "train"), ("generate.fin", "generate")):
        job = NewJob(
            id=new_job_id("t"), tenant_id="t", kind=JobKind.GENERATE, stage=stage, queue=queue, body={"input": "x"}
        )
        do(calls.create(job, 60))
        ledger.redis.hdel(LedgerKey.JOB.of(job.id), "stage")
        assert do(calls.get(job.id)).stage == stage
        acquired = do(calls.acquire(job.id, queue, "w", 0))
        assert acquired.state is Stage(stage).running_state
        (again,) = do(calls.expire(queue))
        assert again == (job.id, queue)
