"""Which job of a queue is next: priorities, turns of tenants and labels, and ledgers from before there were lanes."""

import contextlib
import time
from collections import Counter

import pytest

from shared.contracts.jobs import DEFAULT_NEW_TOKENS, JobKind, JobState, NewJob, new_job_id
from shared.ledger import Ledger, calls
from shared.ledger.calls import MustRunAlone, NotAcquired
from shared.ledger.keys import LedgerKey
from tests.support.old_jobs import lane_keys, take_out_of_lanes

QUEUE = "generate.g"


@pytest.fixture
def new(ledger):
    """Create a job that waits in a lane; answers its id."""

    def new(tenant="t", label="", *, queue=QUEUE, tokens=10, is_batch=False, **fields):
        body = {"input": "x", "params": {"max_new_tokens": tokens}, "priority": "batch" if is_batch else "interactive"}
        job_id = new_job_id(tenant)
        job = NewJob(
            id=job_id,
            tenant_id=tenant,
            kind=JobKind.GENERATE,
            stage=queue.split(".")[0],
            queue=queue,
            body=body,
            label=label,
            **fields,
        )
        ledger.do(calls.create(job, 60))
        return job_id

    return new


@pytest.fixture
def take(ledger):
    """Take the next job; answers it, or None where nothing waits."""

    def take(queue=QUEUE, lease=60.0):
        with contextlib.suppress(NotAcquired):
            return ledger.do(calls.acquire_next(queue, "w", lease))
        return None

    return take


@pytest.fixture
def take_all(take):
    def take_all(queue=QUEUE):
        jobs = []
        while job := take(queue):
            jobs.append(job)
        return jobs

    return take_all


@pytest.mark.parametrize("queue", [QUEUE, "select"])
def test_interactive_jobs_go_first_and_every_fifth_turn_is_a_batch_jobs(new, take_all, queue):
    batch = [new(queue=queue, is_batch=True) for _ in range(4)]
    live = [new(queue=queue) for _ in range(10)]
    taken = [job.id for job in take_all(queue)]
    assert taken == [*live[:4], batch[0], *live[4:8], batch[1], *live[8:], *batch[2:]]


def test_one_batch_turn_ends_the_count_of_interactive_ones(new, take):
    for _ in range(3):
        new(is_batch=True)
        new()
        assert take().body["priority"] == "interactive"
    live = [new() for _ in range(5)]
    assert take().id == live[0]
    assert take().body["priority"] == "batch"
    assert take().id == live[1]


def test_a_trickle_beside_another_labels_backlog_waits_for_one_job(new, take):
    backlog = [new(label="bank.cards") for _ in range(50)]
    for turn in range(5):
        trickle = new(label="bank.accounts")
        assert trickle in {take().id, take().id}, turn
    assert take().id in backlog


def test_tenants_share_by_tokens_however_many_labels_and_jobs_they_have(new, take):
    for number in range(120):
        new("many", f"bank.l{number % 6}", tokens=10)
    for _ in range(60):
        new("few", "bank.cards", tokens=40)
    tokens = Counter()
    for _ in range(100):
        job = take()
        tokens[job.tenant_id] += job.body["params"]["max_new_tokens"]
    assert abs(tokens["many"] - tokens["few"]) <= 2 * 40


def test_labels_of_a_tenant_share_by_tokens(new, take):
    for _ in range(60):
        new(label="bank.long", tokens=30)
        new(label="bank.short", tokens=10)
    tokens = Counter()
    for _ in range(60):
        job = take()
        tokens[job.label] += job.body["params"]["max_new_tokens"]
    assert abs(tokens["bank.long"] - tokens["bank.short"]) <= 2 * 30


def test_who_comes_and_goes_wins_no_turns(new, take):
    """One job at a time, a new one as soon as it is taken, beside a tenant that always has many."""
    for _ in range(60):
        new("steady", tokens=10)
    new("hasty", tokens=10)
    taken = Counter()
    for _ in range(40):
        tenant = take().tenant_id
        taken[tenant] += 1
        if tenant == "hasty":
            new("hasty", tokens=10)
    assert abs(taken["steady"] - taken["hasty"]) <= 2


def test_a_selection_costs_one_whatever_its_job_may_generate(new, take):
    for _ in range(20):
        new("long", queue="select", tokens=1000)
        new("short", queue="select", tokens=1)
    taken = Counter(take("select").tenant_id for _ in range(20))
    assert abs(taken["long"] - taken["short"]) <= 2


def test_a_lane_is_first_in_first_out_and_who_comes_again_stands_at_its_end(ledger, new, take_all, take):
    ids = [new() for _ in range(5)]
    given_back = take()
    ledger.do(calls.release_unfinished(given_back))
    assert [job.id for job in take_all()] == [*ids[1:], ids[0]]


@pytest.mark.parametrize("leave", ["release", "lose", "route", "replay"])
def test_a_job_that_waits_again_keeps_its_priority(ledger, new, take, leave):
    batch = new(queue="select", is_batch=True)
    queue = "select"
    for _ in range(3 if leave == "replay" else 1):
        if leave in {"lose", "replay"}:
            ledger.do(calls.acquire(batch, "select", "w", 0))
            ledger.do(calls.expire("select"))
    if leave == "replay":
        ledger.do(calls.replay(batch, "t"))
    if leave == "release":
        ledger.do(calls.release_unfinished(take("select")))
    if leave == "route":
        queue = QUEUE
        ledger.do(calls.route(take("select"), queue=QUEUE, label="a.b", selection={}))
    live = new(queue=queue)
    assert [take(queue).id, take(queue).id] == [live, batch]


def test_lanes_vanish_with_their_last_job_however_it_leaves(ledger, new, take):
    jobs = {how: new("t" + how, "a.b", is_batch=how == "taken") for how in ("taken", "cancelled", "late", "by_name")}
    ledger.do(calls.cancel(jobs["cancelled"], "tcancelled"))
    ledger.redis.zadd(LedgerKey.DEADLINES, {jobs["late"]: 1})
    ledger.do(calls.expire(QUEUE))
    ledger.do(calls.acquire(jobs["by_name"], QUEUE, "w", 60))
    assert take().id == jobs["taken"]
    assert lane_keys(ledger) == []


def test_a_job_is_not_taken_after_its_deadline_or_its_cancel_or_while_it_waits_for_another(ledger, new, take_all):
    late = new(deadline_seconds=60)
    cancelled = new()
    first = new(queue="train")
    behind = new(after=(first,))
    ledger.redis.hset(LedgerKey.JOB.of(late), "deadline_ms", 1)
    ledger.do(calls.cancel(cancelled, "t"))
    waiter = new()
    (job,) = take_all()
    assert job.id == waiter
    ledger.do(calls.wait_for(job, [first]))
    assert take_all() == []
    assert ledger.do(calls.get(late)).error["code"] == "deadline_exceeded"
    ledger.do(calls.finish(ledger.do(calls.acquire(first, "train", "w", 60)), JobState.SUCCEEDED))
    assert {job.id for job in take_all()} == {waiter, behind}


def test_many_late_jobs_do_not_hide_the_one_behind_them(ledger, new, take):
    late = [new(deadline_seconds=60) for _ in range(150)]
    for job_id in late:
        ledger.redis.hset(LedgerKey.JOB.of(job_id), "deadline_ms", 1)
    good = new()
    assert take() is None  # a call passes over a hundred at most; their messages call again
    assert take().id == good


def test_a_call_whose_answer_was_lost_gets_the_same_attempt_again_and_no_other(ledger, new, take):
    first, second = new(), new()
    call = calls.acquire_next(QUEUE, "w", 60)
    job = ledger.do(call)
    assert ledger.do(call) == job
    assert (job.id, job.attempt) == (first, 1)
    ledger.do(calls.finish(job, JobState.SUCCEEDED))
    with pytest.raises(NotAcquired):
        ledger.do(call)
    assert take().id == second
    assert 0 < ledger.redis.ttl(LedgerKey.TAKEN.of(call.args["try"])) <= 60


def lose_two_leases(ledger, job_id):
    for _ in range(2):
        ledger.do(calls.acquire(job_id, QUEUE, "w", 0))
        ledger.do(calls.expire(QUEUE))


def test_a_last_try_is_set_aside_for_one_process_while_the_others_go_on(ledger, new, take):
    suspect = new()
    lose_two_leases(ledger, suspect)
    other = new()
    with pytest.raises(MustRunAlone) as refusal:
        ledger.do(calls.acquire_next(QUEUE, "w", 60))
    assert refusal.value.job_id == suspect
    assert take().id == other
    assert take() is None  # no second process stops its work for it
    assert ledger.do(calls.get(suspect)).attempt == 2  # a refusal is no attempt
    assert ledger.do(calls.acquire(suspect, QUEUE, "w", 60)).attempt == 3
    assert ledger.redis.zcard(LedgerKey.WAITING.of(QUEUE)) == 0


def test_a_last_try_whose_process_died_before_it_began_comes_again(ledger, new):
    suspect = new()
    lose_two_leases(ledger, suspect)
    for _ in range(2):  # a process that asks and is gone
        with pytest.raises(MustRunAlone):
            ledger.do(calls.acquire_next(QUEUE, "gone", 0))
    assert ledger.do(calls.get(suspect)).lost_leases == 2


def test_a_job_set_aside_can_be_cancelled_and_its_deadline_holds(ledger, new):
    suspects = []
    for deadline_seconds in (0, 60):
        suspects.append(new(deadline_seconds=deadline_seconds))
        lose_two_leases(ledger, suspects[-1])
        with pytest.raises(MustRunAlone):
            ledger.do(calls.acquire_next(QUEUE, "w", 60))
    cancelled, late = suspects
    ledger.do(calls.cancel(cancelled, "t"))
    ledger.redis.hset(LedgerKey.JOB.of(late), "deadline_ms", 1)
    for job_id in suspects:
        with pytest.raises(NotAcquired):
            ledger.do(calls.acquire(job_id, QUEUE, "w", 60))
    assert ledger.redis.zcard(LedgerKey.WAITING.of(QUEUE)) == 0


def test_where_one_lost_lease_is_the_end_the_first_try_needs_no_solitude(settings, new):
    ledger = Ledger(settings.redis_url, max_lost_leases=1)
    job_id = new()
    assert ledger.do(calls.acquire_next(QUEUE, "w", 15)).id == job_id
    ledger.close()


def test_jobs_of_a_ledger_from_before_lanes_are_taken_in_their_order_by_the_priority_in_their_bodies(
    ledger, new, take_all
):
    batch = [new(is_batch=True) for _ in range(2)]
    live = [new() for _ in range(5)]
    take_out_of_lanes(ledger, QUEUE, *batch, *live)
    taken = take_all()
    assert [job.id for job in taken] == [*live[:4], batch[0], live[4], batch[1]]
    assert lane_keys(ledger) == []


def test_a_large_ledger_from_before_lanes_is_taken_whole_and_in_its_order(ledger, new, take_all):
    ids = [new() for _ in range(170)]
    take_out_of_lanes(ledger, QUEUE, *ids)
    young = new("young")
    taken = [job.id for job in take_all()]
    assert [job_id for job_id in taken if job_id != young] == ids
    assert young in taken


def test_jobs_from_before_lanes_do_not_wait_until_no_others_come(ledger, new, take):
    old = [new("old") for _ in range(60)]
    take_out_of_lanes(ledger, QUEUE, *old)
    for _ in range(20):
        new("young")
    for _ in range(2):  # the reconciler's rounds
        ledger.do(calls.expire(QUEUE))
    assert {take().tenant_id for _ in range(3)} == {"old", "young"}
    assert ledger.redis.zcount(LedgerKey.WAITING.of(QUEUE), "-inf", time.time() * 1000) == 0


@pytest.mark.parametrize(
    "body", ["", "[1]", '{"params": null, "priority": null}', '{"params": {"max_new_tokens": null}}']
)
def test_an_old_job_whose_body_says_nothing_is_interactive(ledger, new, take, body):
    odd = new()
    take_out_of_lanes(ledger, QUEUE, odd)
    ledger.redis.hset(LedgerKey.JOB.of(odd), "body", body)
    ledger.do(calls.expire(QUEUE))
    live = new()
    fields = ledger.redis.hmget(LedgerKey.JOB.of(odd), "priority", "tokens")
    assert fields == ["interactive", str(DEFAULT_NEW_TOKENS)]
    ledger.do(calls.cancel(odd, "t"))
    assert take().id == live


def test_what_an_older_process_took_out_of_the_queue_is_passed_over(ledger, new, take):
    """During an upgrade, processes that know no lanes take jobs, end them and give them back."""
    taken, ended, given_back, expired = (new() for _ in range(4))
    waiting = LedgerKey.WAITING.of(QUEUE)
    for job_id in (taken, ended, given_back, expired):
        ledger.redis.zrem(waiting, job_id)
    ledger.redis.hset(LedgerKey.JOB.of(taken), "state", "running")
    ledger.redis.hset(LedgerKey.JOB.of(ended), "state", "succeeded")
    ledger.redis.delete(LedgerKey.JOB.of(expired))
    ledger.redis.zadd(waiting, {given_back: time.time() * 1000 - 1})
    assert take().id == given_back
    assert take() is None
    assert lane_keys(ledger) == []


def test_a_full_ledger_gives_its_jobs_out(ledger, new, take):
    old = new()
    take_out_of_lanes(ledger, QUEUE, old)
    live, batch = new(), new(is_batch=True)
    ledger.redis.config_set("maxmemory", "1")
    try:
        assert [take().id for _ in range(3)] == [live, batch, old]
    finally:
        ledger.redis.config_set("maxmemory", "0")


def test_a_backlog_of_one_lane_costs_another_nothing(ledger, new, take):
    """The server's own time for a call, beside 20,000 jobs of another lane as without them."""

    def server_us(act):
        ledger.redis.config_resetstat()
        act()
        return ledger.redis.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]

    def some():
        for _ in range(200):
            new("other")
            take()

    some()
    alone = server_us(some)
    for _ in range(20):
        fill(ledger, 1000)
    beside = server_us(some)
    assert beside < 3 * alone


def fill(ledger, count):
    """Jobs of the tenant `t`, in one round trip."""
    with ledger.redis.pipeline(transaction=False) as pipeline:
        for _ in range(count):
            job = NewJob(
                id=new_job_id("t"),
                tenant_id="t",
                kind=JobKind.GENERATE,
                stage="generate",
                queue=QUEUE,
                body={"input": "x"},
            )
            call = calls.create(job, 60)
            pipeline.evalsha(ledger._scripts(call.op).sha, 0, calls.base.dump(call.args))
        pipeline.execute()
