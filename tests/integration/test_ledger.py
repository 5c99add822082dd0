"""The ledger against a real server: transitions, leases, fencing, dead letters, dependencies."""

import pytest

from shared.errors import Conflict, Invalid, NotFound, StaleAttempt, Unavailable
from shared.jobs import JobKind, JobState, NewJob, new_job_id
from shared.ledger import Ledger, calls
from shared.ledger.calls import NotAcquired


def make(ledger, *, queue="select", kind=JobKind.GENERATE, **fields):
    job = NewJob(id=new_job_id("t"), tenant_id="t", kind=kind, queue=queue, **({"body": {"input": "x"}} | fields))
    ledger.do(calls.create(job, ttl_seconds=60))
    return job.id


def take(ledger, job_id, *, queue="select", lease=15.0, owner="w1"):
    return ledger.do(calls.acquire(job_id, queue, owner, lease))


def expire_lease(ledger, job_id):
    """Put the lease into the past, as time would."""
    ledger.redis.hset(f"sb:job:{job_id}", "lease_until", 1)
    for key in ledger.redis.scan_iter("sb:leased:*"):
        ledger.redis.zadd(key, {job_id: 1}, xx=True)


def states_told(ledger, job_id):
    import json

    events = ledger.redis.xrange(f"sb:events:{job_id}")
    return [json.loads(e["data"])["state"] for _, e in events if e["type"] == "state"]


def test_a_routed_job_passes_every_state_once_and_each_is_told(ledger):
    job_id = make(ledger)
    job = take(ledger, job_id)
    sent = ledger.do(calls.route(job, queue="generate.fin", label="fin.sa", selection={"label": "fin.sa"}))
    assert sent.queue == "generate.fin"
    job = take(ledger, job_id, queue="generate.fin")
    assert (job.state, job.attempt, job.label) == (JobState.RUNNING, 2, "fin.sa")
    ledger.do(calls.finish(job, JobState.SUCCEEDED, result={"text": "positive"}))
    done = ledger.do(calls.get(job_id, "t"))
    assert done.result == {"text": "positive"}
    assert states_told(ledger, job_id) == ["queued", "selecting", "routed", "running", "succeeded"]
    assert 0 < ledger.redis.ttl(f"sb:job:{job_id}") <= 60
    assert 0 < ledger.redis.ttl(f"sb:events:{job_id}") <= 60


def test_a_second_worker_is_refused_while_the_lease_lives(ledger):
    job_id = make(ledger)
    take(ledger, job_id)
    with pytest.raises(NotAcquired) as refusal:
        take(ledger, job_id, owner="w2")
    assert refusal.value.code == "job_leased"


def test_a_stale_attempt_can_write_nothing(ledger):
    job_id = make(ledger)
    old = take(ledger, job_id)
    expire_lease(ledger, job_id)
    new = take(ledger, job_id, owner="w2")
    assert new.attempt == old.attempt + 1
    for write in (
        calls.route(old, queue="generate.g", label="a.b", selection={}),
        calls.finish(old, JobState.SUCCEEDED, result={}),
        calls.give_back(old),
    ):
        with pytest.raises(StaleAttempt):
            ledger.do(write)
    assert ledger.do(calls.append([(old.id, old.attempt, "token", {"text": "x"})])) == ["stale"]
    assert ledger.do(calls.heartbeat("w1", [], [(old.id, old.attempt)], {}, 15)) == ["stale"]
    assert ledger.redis.xlen(f"sb:events:{job_id}") == len(states_told(ledger, job_id))
    assert ledger.do(calls.get(job_id)).owner == "w2"


def test_a_heartbeat_keeps_the_lease_and_the_presence(ledger):
    job_id = make(ledger)
    job = take(ledger, job_id, lease=0.001)
    assert ledger.do(calls.heartbeat("w1", ["select"], [(job_id, job.attempt)], {"pid": 1}, 15)) == ["held"]
    assert ledger.do(calls.expire("select")) == []
    assert ledger.do(calls.gauges()).queues == [("select", 0, 1, 1)]
    ledger.do(calls.leave_queues("w1", ["select"]))
    assert ledger.do(calls.gauges()).queues == [("select", 0, 1, 0)]


def test_an_expired_lease_sends_the_job_again_and_the_third_one_is_the_last(ledger):
    job_id = make(ledger)
    for _ in range(2):
        take(ledger, job_id)
        expire_lease(ledger, job_id)
        assert [s.job_id for s in ledger.do(calls.expire("select"))] == [job_id]
    take(ledger, job_id)
    expire_lease(ledger, job_id)
    assert ledger.do(calls.expire("select")) == []
    dead = ledger.do(calls.list_jobs("t", dead=True)).jobs
    assert [(j.id, j.state, j.error["code"]) for j in dead] == [(job_id, JobState.FAILED, "attempts_exhausted")]
    assert ledger.redis.ttl(f"sb:job:{job_id}") == -1


def test_a_dead_letter_is_replayed_as_the_same_job(ledger):
    job_id = make(ledger)
    for _ in range(3):
        take(ledger, job_id)
        expire_lease(ledger, job_id)
        ledger.do(calls.expire("select"))
    with pytest.raises(NotFound):
        ledger.do(calls.replay(job_id, "other"))
    assert ledger.do(calls.replay(job_id, "t")).queue == "select"
    job = take(ledger, job_id)
    assert (job.attempt, job.lost_leases) == (4, 0)
    assert ledger.do(calls.list_jobs("t", dead=True)).jobs == []


def test_lost_leases_count_per_stage(ledger):
    job_id = make(ledger)
    for _ in range(2):
        take(ledger, job_id)
        expire_lease(ledger, job_id)
        ledger.do(calls.expire("select"))
    job = take(ledger, job_id)
    ledger.do(calls.route(job, queue="generate.g", label="a.b", selection={}))
    assert take(ledger, job_id, queue="generate.g").lost_leases == 0


def test_giving_back_counts_no_lost_lease(ledger):
    job_id = make(ledger)
    for _ in range(5):
        assert ledger.do(calls.give_back(take(ledger, job_id))).queue == "select"
    assert take(ledger, job_id).lost_leases == 0


def test_cancelling_ends_a_waiting_job_at_once_and_tells_a_running_one(ledger):
    waiting, running = make(ledger), make(ledger)
    job = take(ledger, running)
    assert ledger.do(calls.cancel(waiting, "t")).state == JobState.CANCELLED
    assert ledger.do(calls.cancel(running, "t")).state == JobState.SELECTING
    assert ledger.do(calls.heartbeat("w1", [], [(running, job.attempt)], {}, 15)) == ["cancel"]
    with pytest.raises(NotFound):
        ledger.do(calls.cancel(running, "other"))


def test_a_cancelled_job_whose_worker_died_is_not_started_again(ledger):
    job_id = make(ledger)
    take(ledger, job_id)
    ledger.do(calls.cancel(job_id, "t"))
    expire_lease(ledger, job_id)
    with pytest.raises(NotAcquired):
        take(ledger, job_id)
    assert ledger.do(calls.get(job_id)).state == JobState.CANCELLED


def test_a_deadline_that_passes_in_the_queue_ends_the_job(ledger):
    job_id = make(ledger, deadline_seconds=1e-6)
    ledger.do(calls.expire("select"))
    assert ledger.do(calls.get(job_id)).error["code"] == "deadline_exceeded"


def test_the_same_id_makes_one_job_and_another_body_is_refused(ledger):
    job = NewJob(id="job_k", tenant_id="t", kind=JobKind.GENERATE, queue="select", body={"input": "x"})
    assert not ledger.do(calls.create(job, 60)).existing
    assert ledger.do(calls.create(job, 60)) == (True, None)
    with pytest.raises(Invalid) as refusal:
        ledger.do(calls.create(job.model_copy(update={"body": {"input": "y"}}), 60))
    assert refusal.value.code == "idempotency_key_reused"
    assert ledger.redis.zcard("sb:waiting:select") == 1


def test_a_job_is_refused_when_the_release_moved_meanwhile(ledger):
    ledger.redis.set("sb:release:t", "rel_new")
    with pytest.raises(Conflict) as refusal:
        make(ledger, release="rel_old")
    assert refusal.value.code == "release_moved"
    make(ledger, release="rel_new")


def test_a_training_job_waits_for_those_before_it(ledger):
    first = make(ledger, queue="train", kind=JobKind.TRAIN)
    second = make(ledger, queue="train", kind=JobKind.TRAIN, after=(first,))
    assert ledger.redis.zrange("sb:waiting:train", 0, -1) == [first]
    job = take(ledger, first, queue="train")
    released = ledger.do(calls.finish(job, JobState.SUCCEEDED))
    assert [s.job_id for s in released] == [second]


def test_a_failed_training_job_fails_the_chain_behind_it(ledger):
    first = make(ledger, queue="train", kind=JobKind.TRAIN)
    second = make(ledger, queue="train", kind=JobKind.TRAIN, after=(first,))
    third = make(ledger, queue="train", kind=JobKind.TRAIN, after=(second,))
    ledger.do(calls.cancel(first, "t"))
    assert ledger.do(calls.get(third)).error["code"] == "dependency_failed"


def test_jobs_of_another_tenant_are_not_to_be_found(ledger):
    job_id = make(ledger)
    with pytest.raises(NotFound):
        ledger.do(calls.get(job_id, "other"))
    assert ledger.do(calls.list_jobs("other")).jobs == []


def test_listing_pages_through_all_jobs_newest_first(ledger):
    made = [make(ledger) for _ in range(7)]
    seen, cursor = [], ""
    while True:
        page = ledger.do(calls.list_jobs("t", limit=3, before=cursor))
        seen += [job.id for job in page.jobs]
        cursor = page.next
        if not cursor:
            break
    assert seen == made[::-1]


def test_a_full_server_is_unavailable_and_nothing_is_written(ledger):
    ledger.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable) as refusal:
            make(ledger)
    finally:
        ledger.redis.config_set("maxmemory", "0")
    assert refusal.value.code == "ledger_full"
    assert ledger.do(calls.list_jobs("t")).jobs == []


def test_a_server_that_is_gone_is_unavailable(settings):
    with pytest.raises(Unavailable) as refusal:
        Ledger("redis://127.0.0.1:1/0").do(calls.gauges())
    assert refusal.value.retryable


def test_a_rare_filter_gives_short_pages_but_finds_everything(ledger):
    rare = make(ledger, queue="train", kind=JobKind.TRAIN)
    for _ in range(2100):
        make(ledger)
    found, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = ledger.do(calls.list_jobs("t", kind=JobKind.TRAIN, before=cursor))
        found += [job.id for job in page.jobs]
        cursor, pages = page.next, pages + 1
    assert found == [rare]
    assert pages > 1
