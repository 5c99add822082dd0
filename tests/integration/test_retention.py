"""What a tenant's jobs take of the ledger: counted exactly, bounded, given back at their time or before it."""

import secrets
import time

import pytest

from services.api.infra.ledger_room import LedgerRoom
from shared.contracts.jobs import JobKind, JobState, NewJob, Stage, new_job_id
from shared.errors import NotFound, TooMany
from shared.ledger import AsyncLedger, Ledger, LedgerAway, calls
from shared.ledger.calls import TenantBudget
from shared.ledger.keys import LedgerKey
from shared.queue.retention import Retention
from shared.settings import Settings

QUEUE = "generate.g"
HOUR_MS = 3_600_000


@pytest.fixture
def new(ledger):
    def make(tenant="t", job_id=None, text="x", budget=calls.NO_BUDGET):
        job = NewJob(
            id=job_id or new_job_id(tenant),
            tenant_id=tenant,
            kind=JobKind.GENERATE,
            stage=Stage.GENERATE,
            queue=QUEUE,
            body={"input": text},
        )
        ledger.do(calls.create(job, ttl_seconds=7200, budget=budget))
        return job.id

    return make


@pytest.fixture
def ended(ledger, new):
    def make(tenant="t", ago_ms=0, **more):
        """A job that ended so long ago."""
        job_id = new(tenant, **more)
        job = ledger.do(calls.acquire(job_id, QUEUE, "w", 60))
        ledger.do(calls.finish(job, JobState.SUCCEEDED, result={"text": "y"}))
        if ago_ms:
            shift(tenant, job_id, ago_ms)
        return job_id

    def shift(tenant, job_id, ago_ms):
        """Let time pass for what is kept of this job."""
        kept = LedgerKey.KEPT.of(tenant)
        for member, at in ledger.redis.zrange(kept, 0, -1, withscores=True):
            if member.startswith(f"{job_id}|"):
                name, size, end, *noted = member.split("|")
                ledger.redis.zrem(kept, member)
                shifted = "|".join([name, size, f"{float(end) - ago_ms:.3f}", *noted])
                ledger.redis.zadd(kept, {shifted: at - ago_ms})
                created = float(ledger.redis.hget(LedgerKey.JOB.of(job_id), "at_queued"))
                ledger.redis.hset(LedgerKey.JOB.of(job_id), "at_queued", created - ago_ms)

    return make


def held(ledger, tenant="t"):
    return ledger.do(calls.gauges()).held.get(tenant, 0)


def exists(ledger, job_id):
    try:
        return bool(ledger.do(calls.get(job_id)))
    except NotFound:
        return False


def forget(ledger, tenant="t", limit=100, free_bytes=0, min_ttl_seconds=600):
    return ledger.do(calls.forget(tenant, limit, free_bytes=free_bytes, min_ttl_seconds=min_ttl_seconds))


def test_a_job_counts_from_its_creation_until_it_is_forgotten_and_cancelled_ones_too(ledger, new, ended):
    one = new()
    size = held(ledger)
    assert size > 5000
    other = new()
    assert held(ledger) == 2 * size
    ledger.do(calls.cancel(one, "t"))
    ledger.do(calls.cancel(one, "t"))
    ended(ago_ms=3 * HOUR_MS)
    assert held(ledger) == 3 * size
    assert forget(ledger) == (1, 0, size)
    assert held(ledger) == 2 * size
    assert exists(ledger, one)
    assert exists(ledger, other)


def test_what_is_due_leaves_the_index_and_the_streams_too(ledger, ended, new):
    gone = [ended(ago_ms=3 * HOUR_MS) for _ in range(5)]
    kept = new()
    assert [forget(ledger, limit=3).records for _ in range(2)] == [3, 2]
    assert ledger.redis.zrange(LedgerKey.JOBS.of("t"), 0, -1) == [kept]
    assert not any(exists(ledger, job_id) for job_id in gone)
    assert not any(ledger.redis.exists(LedgerKey.EVENTS.of(job_id)) for job_id in gone)


def test_for_room_the_oldest_ends_go_first_and_neither_young_nor_unended_jobs(ledger, new, ended):
    waiting, running = new(), new()
    ledger.do(calls.acquire(running, QUEUE, "w", 60))
    old, older, young = ended(ago_ms=HOUR_MS), ended(ago_ms=HOUR_MS + 1000), ended()
    size = held(ledger) / 5
    assert forget(ledger, free_bytes=1) == (1, 1, size)
    assert (exists(ledger, older), exists(ledger, old)) == (False, True)
    assert forget(ledger, free_bytes=100 * size) == (1, 1, size)
    assert [exists(ledger, job_id) for job_id in (old, young, waiting, running)] == [False, True, True, True]


def test_a_job_made_anew_under_an_expired_id_outlives_what_is_kept_of_the_former(ledger, new, ended):
    ended(job_id="job_k", ago_ms=3 * HOUR_MS)
    ledger.redis.delete(LedgerKey.JOB.of("job_k"))  # its time to live was over first
    new(job_id="job_k")
    size = held(ledger) / 2
    assert forget(ledger).records == 1
    assert exists(ledger, "job_k")
    assert held(ledger) == size
    assert ledger.redis.zrange(LedgerKey.JOBS.of("t"), 0, -1) == ["job_k"]


def test_above_its_budget_a_tenant_gets_no_more_and_another_does(ledger, new, ended):
    ended(ago_ms=60_000)
    budget = TenantBudget(held(ledger) * 2, min_ttl_seconds=600)
    new(budget=budget)
    with pytest.raises(TooMany) as refusal:
        new(budget=budget)
    assert refusal.value.code == "ledger_budget_used"
    assert 530 < refusal.value.retry_after_seconds <= 540
    assert held(ledger) == budget.most_bytes
    new("u", budget=budget)
    job = ledger.do(calls.acquire_next(QUEUE, "w", 60))
    ledger.do(calls.finish(job, JobState.SUCCEEDED, result={"text": "y"}))


def test_feedback_counts_and_is_refused_above_the_budget(ledger, ended):
    job_id = ended()
    size = held(ledger)
    value = {"output": secrets.token_urlsafe(1000)}
    ledger.do(calls.feedback(job_id, "t", value, None, before=0))
    with_feedback = held(ledger)
    assert with_feedback > size + 1000
    with pytest.raises(TooMany):
        ledger.do(
            calls.feedback(
                job_id, "t", {"output": "y" * 3000}, None, before=1, budget=TenantBudget(with_feedback + 100, 600)
            )
        )
    assert ledger.do(calls.get(job_id)).feedback == value
    for before, rating in ((1, 1), (2, 0)):
        ledger.do(calls.feedback(job_id, "t", value | {"rating": rating}, None, before=before))
    ledger.redis.zadd(LedgerKey.KEPT.of("t"), dict.fromkeys(ledger.redis.zrange(LedgerKey.KEPT.of("t"), 0, -1), 1))
    assert forget(ledger).records == 4
    assert held(ledger) == 0


def test_feedback_keeps_no_older_job_from_making_room(ledger, ended):
    job_id, other = ended(), ended()
    ledger.do(calls.feedback(job_id, "t", {"rating": 1}, None, before=0))
    assert forget(ledger, free_bytes=10**9, min_ttl_seconds=0).records == 3
    assert not exists(ledger, job_id)
    assert not exists(ledger, other)


def test_jobs_that_an_earlier_version_ended_are_taken_over(ledger, new):
    job_id = new()
    size = held(ledger)
    ledger.redis.hset(LedgerKey.JOB.of(job_id), "state", "succeeded")
    ledger.redis.zadd(LedgerKey.ENDS, {f"t|{job_id}": time.time() * 1000 - 1, "u|job_gone": 1})
    ledger.do(calls.adopt_ended())
    assert ledger.redis.exists(LedgerKey.ENDS) == 0
    assert forget(ledger) == (1, 0, size)
    assert forget(ledger, "u").records == 1
    assert held(ledger) == 0
    assert ledger.redis.zcard(LedgerKey.JOBS.of("t")) == 0


def test_long_texts_are_kept_compressed_and_read_back_whole(ledger, new):
    text = "Über die Brücke gehen wir. " * 1000
    job_id = new(text=text)
    assert len(ledger.redis.hget(LedgerKey.JOB.of(job_id), "body")) < len(text) / 5
    job = ledger.do(calls.acquire(job_id, QUEUE, "w", 60))
    assert job.body == {"input": text}
    ledger.do(calls.finish(job, JobState.SUCCEEDED, result={"text": text}))
    assert ledger.do(calls.get(job_id)).result == {"text": text}
    assert len(ledger.redis.hget(LedgerKey.JOB.of(job_id), "result")) < len(text) / 5


def test_a_long_text_of_an_earlier_version_is_read(ledger, new):
    job_id = new()
    ledger.redis.hset(LedgerKey.JOB.of(job_id), "body", '{"input": "%s"}' % ("x" * 10_000))
    assert ledger.do(calls.get(job_id)).body == {"input": "x" * 10_000}


@pytest.fixture
def limited(ledger):
    """Set the server's memory to so much more than it uses now."""

    def limit(more_bytes):
        ledger.redis.config_set("maxmemory", ledger.redis.info("memory")["used_memory"] + more_bytes)

    yield limit
    ledger.redis.config_set("maxmemory", 0)


def test_a_tenant_above_its_high_water_loses_its_own_oldest_jobs_before_their_time(ledger, ended, limited):
    mine = [ended(ago_ms=HOUR_MS - n, text=secrets.token_hex(50_000)) for n in range(40)]
    theirs = ended("u", ago_ms=HOUR_MS + 1000)
    limited(100 << 20)
    most = ledger.redis.config_get("maxmemory")["maxmemory"]
    share = held(ledger) / int(most)  # so that all it holds is its whole budget
    settings = Settings(tenant_ledger_share=share / 0.9, ledger_reserve=0.1, ledger_high_water=0.51)
    Retention(ledger, settings).round(ledger.do(calls.gauges()).held)
    assert [exists(ledger, job_id) for job_id in mine] == [False] * 20 + [True] * 20
    assert exists(ledger, theirs)


def test_where_all_memory_runs_out_the_tenant_that_holds_most_makes_room(ledger, ended, limited):
    mine = [ended(ago_ms=HOUR_MS - n, text=secrets.token_hex(50_000)) for n in range(40)]
    theirs = ended("u", ago_ms=HOUR_MS + 1000)
    limited(100_000)
    settings = Settings(tenant_ledger_share=1.0, ledger_reserve=0.1, ledger_high_water=1.0)
    Retention(ledger, settings).round(ledger.do(calls.gauges()).held)
    assert not exists(ledger, mine[0])
    assert exists(ledger, mine[-1])
    assert exists(ledger, theirs)


def test_without_a_limit_of_memory_jobs_are_kept_for_their_time(ledger, ended):
    job_id = ended(ago_ms=HOUR_MS)
    Retention(ledger, Settings()).round(ledger.do(calls.gauges()).held)
    assert exists(ledger, job_id)


def test_a_full_ledger_takes_no_work_and_brings_what_it_has_to_its_end(ledger, new, ended):
    """Heartbeats, attempts, events, ends, cancels, the reconciler's lock: everything but new jobs and feedback."""
    cancelled, routed, judged = new(), new(), ended()
    ledger.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(LedgerAway, match="takes no writes"):
            ledger.do(calls.feedback(judged, "t", {"rating": 1}, None, before=0))
        with pytest.raises(LedgerAway, match="takes no writes"):
            new()
        assert ledger.do(calls.lead("r", 5)) == "anew"
        assert ledger.do(calls.lead("r", 5)) == "still"
        assert ledger.do(calls.lead("other", 5)) == "no"
        assert ledger.do(calls.cancel(cancelled, "t")) == JobState.CANCELLED
        job = ledger.do(calls.acquire_next(QUEUE, "w", 60))
        assert job.id == routed
        assert ledger.do(calls.heartbeat("w", [QUEUE], [(job.id, job.attempt)], {}, 15)) == ["held"]
        assert ledger.do(calls.append([(job.id, job.attempt, "token", {"text": "x"})])) == ["held"]
        ledger.do(calls.finish(job, JobState.SUCCEEDED, result={"text": "x"}))
        assert ledger.do(calls.expire(QUEUE)) == []
        assert ledger.do(calls.get(routed)).result == {"text": "x"}
    finally:
        ledger.redis.config_set("maxmemory", 0)


async def test_nothing_is_bounded_where_the_servers_users_may_not_ask_for_its_memory(settings, ledger, new):
    """As users of an earlier version may not."""
    ledger.redis.acl_setuser("old", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-info"])
    url = settings.redis_url.replace("://", "://old:any@")
    api, process = AsyncLedger(url), Ledger(url)
    try:
        assert (await LedgerRoom(api, settings).budget("t")).most_bytes == 0
        job_id = new()
        Retention(process, settings).round({"t": 10})
        assert exists(ledger, job_id)
    finally:
        await api.close()
        process.close()
        ledger.redis.acl_deluser("old")
