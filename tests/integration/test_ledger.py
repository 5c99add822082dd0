"""The ledger against a real server: transitions, leases, fencing, dead letters, dependencies."""

import pytest

from shared.contracts.jobs import JobKind, JobState, NewJob, Stage, new_job_id
from shared.contracts.shares import Shares
from shared.errors import Cancelled, Conflict, Invalid, NotFound, StaleAttempt, TooMany, Unavailable
from shared.ledger import Ledger, calls
from shared.ledger.calls import NotAcquired
from shared.ledger.keys import LedgerKey


def make(ledger, *, queue="select", kind=JobKind.GENERATE, **fields):
    given = {"id": new_job_id("t"), "body": {"input": "x"}} | fields
    job = NewJob(tenant_id="t", kind=kind, stage=queue.split(".")[0], queue=queue, **given)
    ledger.do(calls.create(job, ttl_seconds=60))
    return job.id


def take(ledger, job_id, *, queue="select", lease=15.0, owner="w1"):
    return ledger.do(calls.acquire(job_id, queue, owner, lease))


def expire_lease(ledger, job_id):
    """Put the lease into the past, as time would."""
    ledger.redis.hset(LedgerKey.JOB.of(job_id), "lease_until", 1)
    for key in ledger.redis.scan_iter(LedgerKey.LEASED.pattern):
        ledger.redis.zadd(key, {job_id: 1}, xx=True)


def kill(ledger, job_id):
    """Lose lease after lease, until the job is a dead letter."""
    for _ in range(3):
        take(ledger, job_id)
        expire_lease(ledger, job_id)
        ledger.do(calls.expire("select"))


def states_told(ledger, job_id):
    import json

    events = ledger.redis.xrange(LedgerKey.EVENTS.of(job_id))
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
    assert 0 < ledger.redis.ttl(LedgerKey.JOB.of(job_id)) <= 60
    assert 0 < ledger.redis.ttl(LedgerKey.EVENTS.of(job_id)) <= 60


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
        calls.release_unfinished(old),
    ):
        with pytest.raises(StaleAttempt):
            ledger.do(write)
    assert ledger.do(calls.append([(old.id, old.attempt, "token", {"text": "x"})])) == ["stale"]
    assert ledger.do(calls.heartbeat("w1", [], [(old.id, old.attempt)], {}, 15)) == ["stale"]
    assert ledger.redis.xlen(LedgerKey.EVENTS.of(job_id)) == len(states_told(ledger, job_id))
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
    assert ledger.redis.ttl(LedgerKey.JOB.of(job_id)) == -1


def test_a_dead_letter_is_replayed_as_the_same_job(ledger):
    job_id = make(ledger)
    kill(ledger, job_id)
    assert ledger.do(calls.gauges()).given_up == {"attempts_exhausted": 1}
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
        assert ledger.do(calls.release_unfinished(take(ledger, job_id))).queue == "select"
    assert take(ledger, job_id).lost_leases == 0


def test_cancelling_ends_a_waiting_job_at_once_and_tells_a_running_one(ledger):
    waiting, running = make(ledger), make(ledger)
    job = take(ledger, running)
    assert ledger.do(calls.cancel(waiting, "t")) == JobState.CANCELLED
    assert ledger.do(calls.cancel(running, "t")) == JobState.SELECTING
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
    assert ledger.do(calls.gauges()).given_up == {"deadline_exceeded": 1}


def test_the_same_id_makes_one_job_and_another_body_is_refused(ledger):
    job = NewJob(
        id="job_k", tenant_id="t", kind=JobKind.GENERATE, stage=Stage.SELECT, queue="select", body={"input": "x"}
    )
    assert not ledger.do(calls.create(job, 60)).existing
    assert ledger.do(calls.create(job, 60)) == (True, None)
    with pytest.raises(Invalid) as refusal:
        ledger.do(calls.create(job.model_copy(update={"body": {"input": "y"}}), 60))
    assert refusal.value.code == "idempotency_key_reused"
    assert ledger.redis.zcard(LedgerKey.WAITING.of("select")) == 1


def test_beyond_the_jobs_that_may_wait_new_ones_are_refused_and_known_ones_are_not(ledger):
    def create(job_id):
        job = NewJob(
            id=job_id, tenant_id="t", kind=JobKind.GENERATE, stage=Stage.SELECT, queue="select", body={"input": "x"}
        )
        return ledger.do(calls.create(job, 60, max_waiting=Shares(2, 0, 0)))

    create("job_1")
    create("job_2")
    with pytest.raises(TooMany) as refusal:
        create("job_3")
    assert (refusal.value.status, refusal.value.retryable) == (429, True)
    assert create("job_2").existing
    take(ledger, "job_1")  # what a worker has does not wait any more
    assert not create("job_3").existing


def test_a_tenant_and_a_line_of_keys_have_no_more_jobs_than_their_shares_until_some_end(ledger):
    def create(number, tenant="t", line="k"):
        job = NewJob(
            id=f"job_{number}", tenant_id=tenant, kind=JobKind.GENERATE, stage=Stage.SELECT, queue="select",
            body={"input": "x"}, key=line, key_line=line,
        )  # fmt: skip
        return ledger.do(calls.create(job, 60, max_waiting=Shares(100, 3, 2)))

    for number, line in enumerate(["k", "k", "l"]):
        create(number, line=line)
    for line, whose in (("k", "this tenant"), ("l", "this tenant")):
        with pytest.raises(TooMany, match=f"3 jobs of {whose} have not ended"):
            create(9, line=line)
    create(10, "u", "m")
    job = take(ledger, "job_2")
    with pytest.raises(TooMany):  # what runs counts until it ends
        create(9)
    ledger.do(calls.finish(job, JobState.SUCCEEDED))
    with pytest.raises(TooMany, match="2 jobs of this API key have not ended"):
        create(9)
    ledger.do(calls.cancel("job_0", "t"))
    create(9)
    assert set(ledger.do(calls.gauges()).states) <= set(JobState)


def test_a_job_is_refused_when_the_release_moved_meanwhile(ledger):
    ledger.redis.set(LedgerKey.RELEASE.of("t"), "rel_new")
    with pytest.raises(Conflict) as refusal:
        make(ledger, release="rel_old")
    assert refusal.value.code == "release_moved"
    make(ledger, release="rel_new")


def test_a_training_job_waits_for_those_before_it(ledger):
    first = make(ledger, queue="train", kind=JobKind.TRAIN)
    second = make(ledger, queue="train", kind=JobKind.TRAIN, after=(first,))
    assert ledger.redis.zrange(LedgerKey.WAITING.of("train"), 0, -1) == [first]
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
    training = make(ledger, queue="train", kind=JobKind.TRAIN)
    rare = make(ledger, kind=JobKind.SELECT)
    for _ in range(2100):
        make(ledger)
    found, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = ledger.do(calls.list_jobs("t", only=calls.JobFilter(kind=JobKind.SELECT), before=cursor))
        found += [job.id for job in page.jobs]
        cursor, pages = page.next, pages + 1
    assert found == [rare]
    assert pages > 1
    trainings = ledger.do(calls.list_jobs("t", only=calls.JobFilter(kind=JobKind.TRAIN)))
    assert [job.id for job in trainings.jobs] == [training]  # by their own index
    assert not trainings.next


def test_jobs_of_a_label_of_one_word_are_found_in_both_forms_in_the_order_of_their_time(ledger):
    made = [make(ledger, label=label) for label in ("support", "default.support", "support")]  # the older one's form
    make(ledger, label="bank.support")
    for form in ("support", "default.support"):
        only, seen, cursor = calls.JobFilter(label=form), [], ""
        while not seen or cursor:
            page = ledger.do(calls.list_jobs("t", limit=2, before=cursor, only=only))
            seen += [(job.id, job.label) for job in page.jobs]
            cursor = page.next
        assert seen == [(job_id, "support") for job_id in made[::-1]]


def select(ledger, confidence, **selection):
    job = take(ledger, make(ledger))
    told = {"label": "fin.sa", "confidence": confidence, "selector": "s", "ambiguous": False} | selection
    ledger.do(calls.route(job, queue="generate.fin", label="fin.sa", selection=told))


def confidences(ledger, **bounds):
    """All slices of the tenant's jobs."""
    start, found = 0, []
    while start >= 0:
        found.append(ledger.do(calls.confidences("t", "s", 0, start, **bounds)))
        start = found[-1].next
    return found


def test_it_is_told_how_sure_the_selector_was_of_the_last_jobs(ledger):
    make(ledger)  # has no selection yet
    select(ledger, 0.25)
    select(ledger, 0.999999)
    select(ledger, 0.5, ambiguous=True)
    select(ledger, 0.75, selector="another")
    select(ledger, None, by="named")
    (found,) = confidences(ledger)
    assert (found.jobs, found.confidences, found.ambiguous, found.of_others) == (6, [0.999999, 0.25], [0.5], 1)
    assert ledger.do(calls.confidences("t", "s", 4e12)).jobs == 0
    assert ledger.do(calls.confidences("another", "s", 0)).jobs == 0


def test_of_many_jobs_every_nth_is_looked_at_slice_by_slice(ledger):
    for n in range(10):
        select(ledger, n / 10)
    slices = confidences(ledger, sample=4, limit=2)
    assert [one.confidences for one in slices] == [[0.9, 0.6], [0.3, 0.0]]
    assert {one.jobs for one in slices} == {10}


def test_an_acquire_whose_answer_was_lost_gives_the_same_attempt_again(ledger):
    job_id = make(ledger)
    call = calls.acquire(job_id, "select", "w1", 15)
    assert ledger.do(call) == ledger.do(call)
    assert ledger.do(calls.get(job_id)).attempt == 1
    with pytest.raises(NotAcquired):
        take(ledger, job_id, owner="w1")  # another call of the same process is no repetition


def test_an_acquire_that_comes_again_after_its_attempt_ended_is_refused(ledger):
    job_id = make(ledger)
    call = calls.acquire(job_id, "select", "w1", 15)
    ledger.do(calls.finish(ledger.do(call), JobState.SUCCEEDED))
    with pytest.raises(NotAcquired):
        ledger.do(call)


def test_an_end_whose_answer_was_lost_is_no_stale_write_but_another_attempts_is(ledger):
    first = make(ledger)
    second = make(ledger, after=(first,))
    old = take(ledger, first)
    expire_lease(ledger, first)
    finish = calls.finish(take(ledger, first, owner="w2"), JobState.SUCCEEDED)
    assert [sent.job_id for sent in ledger.do(finish)] == [second]
    assert ledger.do(finish) == []
    with pytest.raises(StaleAttempt):
        ledger.do(calls.finish(old, JobState.SUCCEEDED))
    assert states_told(ledger, first)[-2:] == ["selecting", "succeeded"]


def test_a_batch_of_events_that_comes_again_is_written_once(ledger):
    job = take(ledger, make(ledger))

    def batch(number, writer="writer"):
        return calls.append([(job.id, job.attempt, "token", {"text": str(number)})], writer=writer, batch=number)

    for call in (batch(1), batch(1), batch(2), batch(1), batch(1, "another")):
        assert ledger.do(call) == ["held"]
    tokens = [e["data"] for _, e in ledger.redis.xrange(LedgerKey.EVENTS.of(job.id)) if e["type"] == "token"]
    assert tokens == ['{"text":"1"}', '{"text":"2"}', '{"text":"1"}']


@pytest.fixture
def releases(ledger):
    for release in ("rel_1", "rel_2"):
        ledger.redis.hset(LedgerKey.RELEASES.of("t"), release, "{}")


def promote(release, expected, *, by="me", attempt=None):
    return calls.move_release("t", release, expected=expected, queues=[], by=by, attempt=attempt)


def test_a_promotion_whose_answer_was_lost_is_no_conflict_and_a_rivals_is(ledger, releases):
    for call in (promote("rel_1", ""), promote("rel_2", "rel_1"), promote("rel_2", "rel_1")):
        ledger.do(call)
    assert ledger.redis.llen(LedgerKey.PROMOTIONS.of("t")) == 2
    for rival in (promote("rel_3", "rel_1"), promote("rel_2", "rel_1", by="you"), promote("rel_1", "")):
        with pytest.raises(Conflict) as refusal:
            ledger.do(rival)
        assert refusal.value.code == "stale_parent"


def test_a_stale_attempt_does_not_move_the_pointer(ledger, releases):
    job_id = make(ledger)
    old = take(ledger, job_id)
    expire_lease(ledger, job_id)
    new = take(ledger, job_id, owner="w2")
    with pytest.raises(StaleAttempt):
        ledger.do(promote("rel_1", "", attempt=old))
    assert ledger.redis.get(LedgerKey.RELEASE.of("t")) is None
    ledger.do(promote("rel_1", "", attempt=new))
    assert ledger.redis.get(LedgerKey.RELEASE.of("t")) == "rel_1"


def test_a_deadline_that_passed_during_an_attempt_ends_the_job_when_it_waits_again(ledger):
    job_id = make(ledger, deadline_seconds=60)
    job = take(ledger, job_id)
    ledger.redis.zadd(LedgerKey.DEADLINES, {job_id: 1})
    ledger.redis.hset(LedgerKey.JOB.of(job_id), "deadline_ms", 1)
    ledger.do(calls.expire("select"))  # forgets it: a running job's deadline is its engine's
    ledger.do(calls.release_unfinished(job))
    ledger.do(calls.expire("select"))
    assert ledger.do(calls.get(job_id)).error["code"] == "deadline_exceeded"


def route(job):
    return calls.route(job, queue="generate.g", label="a.b", selection={})


@pytest.mark.parametrize("leave", [route, calls.release_unfinished])
def test_a_job_cancelled_during_an_attempt_does_not_wait_again(ledger, leave):
    job = take(ledger, make(ledger))
    ledger.do(calls.cancel(job.id, "t"))
    with pytest.raises(Cancelled):
        ledger.do(leave(job))
    assert ledger.do(calls.get(job.id)).state == JobState.CANCELLED
    assert [(gauge.waiting, gauge.running) for gauge in ledger.do(calls.gauges()).queues] == [(0, 0)]


def test_a_cancelled_job_whose_lease_runs_out_is_not_sent_again(ledger):
    job_id = make(ledger)
    take(ledger, job_id)
    ledger.do(calls.cancel(job_id, "t"))
    expire_lease(ledger, job_id)
    assert ledger.do(calls.expire("select")) == []
    assert ledger.do(calls.get(job_id)).state == JobState.CANCELLED


def pass_end(ledger, job_id):
    """Let the time pass for which a job is kept, and forget it."""
    (kept,) = (one for one in ledger.redis.zrange(LedgerKey.KEPT.of("t"), 0, -1) if one.startswith(f"{job_id}|"))
    ledger.redis.zadd(LedgerKey.KEPT.of("t"), {kept: 1}, xx=True)
    ledger.do(calls.forget("t", 10, free_bytes=0, min_ttl_seconds=60))


def test_the_indexes_of_facts_forget_a_job_with_its_record(ledger):
    ended = make(ledger, key="k", key_line="line")
    selection = {"label": "bank.cards", "rejected": True, "probability": 0.42}
    ledger.do(calls.finish(take(ledger, ended), JobState.REJECTED, selection=selection))
    ledger.do(calls.feedback(ended, "t", {"ok": True}, None, before=0))
    facts = ["line:line", "label:bank.cards", "rejected", "tenth:4", "feedback"]
    indexes = [LedgerKey.FOUND.of("t", fact) for fact in facts]
    assert [ledger.redis.zrange(index, 0, -1) for index in indexes] == [[ended]] * 5
    ledger.redis.delete(LedgerKey.JOB.of(ended))  # its own expiry may come first
    pass_end(ledger, ended)
    assert ledger.redis.exists(*indexes, LedgerKey.JOBS.of("t")) == 0


def test_a_dropped_dead_letter_expires_like_any_other_job(ledger):
    job_id = make(ledger)
    with pytest.raises(NotFound):
        ledger.do(calls.drop(job_id, "t"))
    kill(ledger, job_id)
    assert ledger.redis.zcard(LedgerKey.KEPT.of("t")) == 0
    with pytest.raises(NotFound):
        ledger.do(calls.drop(job_id, "other"))
    ledger.do(calls.drop(job_id, "t"))
    assert 0 < ledger.redis.ttl(LedgerKey.JOB.of(job_id)) <= 60
    assert ledger.redis.zrange(LedgerKey.KEPT.of("t"), 0, -1)[0].startswith(f"{job_id}|")
    assert ledger.do(calls.list_jobs("t", dead=True)).jobs == []
    with pytest.raises(NotFound):
        ledger.do(calls.replay(job_id, "t"))
