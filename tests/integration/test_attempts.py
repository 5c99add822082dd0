"""One try at a job against a real ledger and broker: what its service does is what the ledger says."""

import contextlib
import json
import threading
import time

import pytest
import redis
from structlog.testing import capture_logs

from services.cli.local.servers import free_ports, redis_server
from shared.contracts.jobs import JobKind, JobState, NewJob, new_job_id
from shared.errors import Invalid, ServiceAway
from shared.ledger import Ledger, LedgerAway, calls
from shared.ledger.keys import LedgerKey
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.worker.attempt import AttemptRunner
from shared.worker.event_writer import EventWriter
from shared.worker.leases import LeaseKeeper
from tests.support.eventually import eventually

QUEUE = "generate.g"


class Desk:
    """One process's attempts."""

    def __init__(self, settings, ledger=None, **changes):
        self.settings = settings.model_copy(update=changes)
        self.ledger = ledger or Ledger(self.settings.redis_url)
        self.broker = redis.Redis.from_url(self.settings.broker_url)
        self.leases = LeaseKeeper(self.ledger, self.settings, owner="me", queues=[QUEUE], info=dict)
        self.events = EventWriter(self.ledger)
        bus = Bus(make_celery(self.settings, "test"))
        self.attempts = AttemptRunner(self.ledger, bus, self.leases, self.events, "me")

    def submit(self, **fields):
        fields = {"id": new_job_id("t"), "queue": QUEUE, "kind": JobKind.GENERATE, **fields}
        job = NewJob(tenant_id="t", stage=fields["queue"].split(".")[0], body={"input": "x"}, **fields)
        self.ledger.do(calls.create(job, 60))
        return job.id

    def run(self, job_id, work, queue=QUEUE):
        """Run an attempt at the next job; answers this job as it is afterwards."""
        self.attempts.run(queue, work)
        return self.ledger.do(calls.get(job_id))

    def sent(self, queue=QUEUE):
        """Job ids of the messages in a queue."""
        return [json.loads(raw)["headers"]["id"] for raw in self.broker.lrange(queue, 0, -1)]


@pytest.fixture
def desk(settings):
    return Desk(settings)


@pytest.fixture
def own_redis(settings, tmp_path):
    """A ledger server of this test alone, to be stopped at will, and a desk on it."""
    (port,) = free_ports(1)
    server = redis_server("own", port, tmp_path / "own", fsync="always")
    server.start()
    yield server, Desk(settings, redis_url=f"redis://127.0.0.1:{port}/0")
    server.kill()


def test_a_process_that_starts_beside_a_ledger_without_room_waits_for_it(own_redis):
    """It used to end, and to be started again and again."""
    _, desk = own_redis
    desk.ledger.redis.config_set("min-replicas-to-write", 1)  # takes no writes, as with a full disk
    desk.leases._every_seconds = 0.05
    with capture_logs() as logs:
        desk.leases.start()
    assert [line["event"] for line in logs] == ["heartbeat_failed"]
    assert (desk.leases.is_present, desk.leases.is_turning) == (False, True)
    desk.ledger.redis.config_set("min-replicas-to-write", 0)
    eventually(lambda: desk.leases.is_present, "the process is noted")
    desk.leases.close()


def take_over(desk, job_id):
    """Another process acquires the job, because the lease of this one ran out."""
    desk.ledger.redis.hset(LedgerKey.JOB.of(job_id), "lease_until", 1)
    return desk.ledger.do(calls.acquire(job_id, QUEUE, "another", 15))


def told(desk, job_id, kind):
    return [
        json.loads(e["data"]) for _, e in desk.ledger.redis.xrange(LedgerKey.EVENTS.of(job_id)) if e["type"] == kind
    ]


def text_of(desk, job_id):
    return "".join(data["text"] for data in told(desk, job_id, "token"))


def test_an_attempt_that_ends_its_job_hears_so_and_what_waited_is_sent(desk):
    first = desk.submit()
    second = desk.submit(queue="train", kind=JobKind.TRAIN, after=(first,))
    answers = []
    job = desk.run(first, lambda attempt: answers.append(attempt.succeed({"text": "x"})))
    assert (job.state, answers) == (JobState.SUCCEEDED, [True])
    assert desk.sent("train") == [second]
    assert desk.leases.held_count == 0


def test_an_attempt_that_is_stale_hears_that_it_ended_nothing(desk):
    answers = []

    def work(attempt):
        take_over(desk, attempt.job.id)
        answers.append(attempt.succeed({}))

    job = desk.run(desk.submit(), work)
    assert (job.state, job.owner, answers) == (JobState.RUNNING, "another", [False])


def test_a_message_for_a_job_that_another_holds_is_ignored(desk):
    job_id = desk.submit()
    desk.ledger.do(calls.acquire(job_id, QUEUE, "another", 15))
    assert desk.run(job_id, lambda *_: pytest.fail("worked")).owner == "another"


def test_the_last_try_at_a_job_runs_while_no_other_does(desk):
    suspect, other = desk.submit(), desk.submit()
    for _ in range(2):
        take_over(desk, suspect)
        desk.ledger.redis.zadd(LedgerKey.LEASED.of(QUEUE), {suspect: 1})
        desk.ledger.do(calls.expire(QUEUE))
    others_runs, other_may_end, order = threading.Event(), threading.Event(), []

    def slow_work(attempt):
        others_runs.set()
        other_may_end.wait(10)
        order.append("other")
        attempt.succeed({})

    def last_try(attempt):
        order.append("suspect")
        attempt.succeed({})

    threads = [threading.Thread(target=desk.run, args=(other, slow_work))]
    threads[0].start()
    assert others_runs.wait(10)
    threads.append(threading.Thread(target=desk.run, args=(suspect, last_try)))
    threads[1].start()
    threads[1].join(0.2)
    assert desk.ledger.do(calls.get(suspect)).state is JobState.ROUTED  # it holds no lease while it waits
    other_may_end.set()
    for thread in threads:
        thread.join(10)
    assert order == ["other", "suspect"]


def test_what_begins_after_the_drain_is_given_back_at_once(desk):
    desk.leases.drain()
    job_id = desk.submit()
    job = desk.run(job_id, lambda attempt: attempt.check())
    assert (job.state, job.lost_leases, desk.sent()) == (JobState.ROUTED, 0, [job_id])


def test_a_drain_gives_the_job_back_without_counting_a_lost_lease(desk):
    def work(attempt):
        desk.leases.drain()
        attempt.check()

    job_id = desk.submit()
    job = desk.run(job_id, work)
    assert (job.state, job.lost_leases, desk.sent()) == (JobState.ROUTED, 0, [job_id])


def test_a_job_whose_service_is_away_goes_back_and_waits_longer_each_time(desk):
    def work(_):
        raise ServiceAway("engine_away", "it does not answer")

    job_id, pauses = desk.submit(), []
    for _ in range(3):
        job = desk.run(job_id, work)
        assert (job.state, job.lost_leases, desk.sent()) == (JobState.ROUTED, 0, [])
        due = desk.ledger.redis.zscore(LedgerKey.WAITING.of(QUEUE), job_id)
        pauses.append(due - job.timestamps[JobState.ROUTED])
        assert desk.run(job_id, lambda _: pytest.fail("it is not due")).attempt == job.attempt
        desk.ledger.redis.zadd(LedgerKey.WAITING.of(QUEUE), {job_id: 1})
    assert pauses == pytest.approx([500, 1000, 2000])
    assert desk.run(job_id, lambda attempt: attempt.succeed({})).state == JobState.SUCCEEDED


def test_a_cancelled_job_whose_service_is_away_ends(desk):
    def work(attempt):
        desk.ledger.do(calls.cancel(attempt.job.id, "t"))
        raise ServiceAway("engine_away", "it does not answer")

    assert desk.run(desk.submit(), work).state == JobState.CANCELLED


def test_the_deadline_of_a_job_that_waits_for_its_pause_ends_it(desk):
    def work(_):
        raise ServiceAway("engine_away", "it does not answer")

    job_id = desk.submit(deadline_seconds=0.2)
    desk.run(job_id, work)
    eventually(lambda: time.time() * 1000 > desk.ledger.do(calls.get(job_id)).deadline_ms, "the deadline passes")
    desk.ledger.do(calls.expire(QUEUE))
    assert desk.ledger.do(calls.get(job_id)).error["code"] == "deadline_exceeded"
    assert desk.ledger.redis.zcard(LedgerKey.WAITING.of(QUEUE)) == 0


def test_a_drain_of_a_cancelled_job_ends_it(desk):
    def work(attempt):
        desk.ledger.do(calls.cancel(attempt.job.id, "t"))
        desk.leases.drain()
        attempt.check()

    assert desk.run(desk.submit(), work).state == JobState.CANCELLED
    assert desk.sent() == []


def test_a_cancel_reaches_the_work_by_the_heartbeat_and_ends_the_job(desk):
    stopped = []

    def work(attempt):
        attempt.lease.on_stop(lambda: stopped.append(attempt.lease.reason))
        desk.ledger.do(calls.cancel(attempt.job.id, "t"))
        desk.leases._beat()
        attempt.check()

    assert desk.run(desk.submit(), work).state == JobState.CANCELLED
    assert stopped == ["cancel"]


def test_a_job_that_was_cancelled_before_it_moved_on_is_not_written_again(desk):
    def work(attempt):
        desk.ledger.do(calls.cancel(attempt.job.id, "t"))
        attempt.route(QUEUE, label="a.b", selection={})

    job_id = desk.submit(queue="select")
    with capture_logs() as logs:
        assert desk.run(job_id, work, queue="select").state == JobState.CANCELLED
    assert [entry["event"] for entry in logs] == ["job_cancelled"]


def test_a_crash_fails_the_job_and_not_its_worker(desk):
    job = desk.run(desk.submit(), lambda *_: 1 / 0)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "internal_error")


def test_an_error_with_a_code_fails_the_job_with_it(desk):
    def work(*_):
        raise Invalid("adapter_inactive", "it changes nothing")

    error = desk.run(desk.submit(), work).error
    assert error == {"code": "adapter_inactive", "detail": "it changes nothing", "retryable": False}


def test_a_newer_attempt_in_the_same_process_ends_the_older_one_and_stays_held(desk):
    job_id = desk.submit()
    old_block, new_block = contextlib.ExitStack(), contextlib.ExitStack()
    old = old_block.enter_context(desk.leases.hold(desk.ledger.do(calls.acquire(job_id, QUEUE, "me", 15))))
    new = new_block.enter_context(desk.leases.hold(take_over(desk, job_id)))
    assert (old.reason, new.reason) == ("stale", None)
    old_block.close()
    desk.ledger.redis.hset(LedgerKey.JOB.of(job_id), "lease_until", 1)
    desk.leases._beat()
    assert float(desk.ledger.redis.hget(LedgerKey.JOB.of(job_id), "lease_until")) > 1
    assert new.reason is None
    new_block.close()
    assert desk.leases.held_count == 0


def test_work_that_meets_a_dead_ledger_goes_back_and_counts_nothing(own_redis):
    server, desk = own_redis
    restart = threading.Thread(target=server.start)

    def work(*_):
        server.kill()
        try:
            desk.ledger.redis.get("a raw call, as the registry makes them")
        finally:
            restart.start()

    job_id = desk.submit()
    job = desk.run(job_id, work)
    restart.join()
    assert (job.state, job.lost_leases, desk.sent()) == (JobState.ROUTED, 0, [job_id])


def test_an_end_is_written_through_a_restart_of_the_ledger(own_redis):
    server, desk = own_redis
    restart, answers = threading.Thread(target=server.start), []

    def work(attempt):
        server.kill()
        restart.start()
        answers.append(attempt.succeed({}))

    assert desk.run(desk.submit(), work).state == JobState.SUCCEEDED
    restart.join()
    assert answers == [True]


def test_a_heartbeat_that_crashes_does_not_end_the_thread(desk):
    beats, went_on = [], threading.Event()

    def info():
        beats.append(1)
        if len(beats) == 2:
            raise RuntimeError("a fault nobody thought of")
        if len(beats) == 3:
            went_on.set()
        return {}

    settings = desk.settings.model_copy(update={"heartbeat_seconds": 0.01})
    leases = LeaseKeeper(desk.ledger, settings, owner="me", queues=[QUEUE], info=info)
    leases.start()
    assert went_on.wait(10)
    leases.close()


def test_text_is_written_in_order_and_flush_waits_for_it(desk):
    job = desk.ledger.do(calls.acquire(desk.submit(), QUEUE, "me", 15))
    events = EventWriter(desk.ledger)
    words = [f"word {n} " for n in range(200)]
    for word in words:
        events.put(job, "token", {"text": word})
    events.flush()
    assert text_of(desk, job.id) == "".join(words)


def test_a_later_try_says_that_it_begins_anew_and_every_token_says_of_which_it_is(desk):
    def lose(attempt):
        attempt.emit("token", {"text": "first"})
        take_over(desk, attempt.job.id)

    def answer(attempt):
        attempt.emit("token", {"text": "second"})
        attempt.succeed({"text": "second"})

    job_id = desk.submit()
    desk.run(job_id, lose)
    desk.ledger.redis.zadd(LedgerKey.LEASED.of(QUEUE), {job_id: 1})  # the other process died over it as well
    desk.ledger.do(calls.expire(QUEUE))
    desk.run(job_id, answer)
    assert told(desk, job_id, "restart") == [{"try": 3, "attempt": 3}]
    assert told(desk, job_id, "token")[-1] == {"text": "second", "attempt": 3}


def test_the_first_try_of_a_stage_is_no_restart(desk):
    job_id = desk.submit(queue="select")
    desk.run(job_id, lambda attempt: attempt.route(QUEUE, label="a.b", selection={}), queue="select")
    job = desk.run(job_id, lambda attempt: attempt.succeed({}))
    assert (job.attempt, job.tries, told(desk, job_id, "restart")) == (2, 1, [])


def test_the_end_of_a_job_carries_the_events_that_were_not_written_yet(desk):
    job = desk.ledger.do(calls.acquire(desk.submit(), QUEUE, "me", 15))
    other = desk.ledger.do(calls.acquire(desk.submit(), QUEUE, "me", 15))
    events = EventWriter(desk.ledger)
    words = [f"word {n} " for n in range(200)]
    for word in words:
        events.put(job, "token", {"text": word})
        events.put(other, "token", {"text": word})
    end = calls.finish(job, JobState.SUCCEEDED, events=events.take(job), result={})
    for _ in range(2):  # where the answer was lost it is written once all the same
        desk.ledger.do(end)
    events.flush()
    assert text_of(desk, job.id) == text_of(desk, other.id) == "".join(words)
    kinds = [fields["type"] for _, fields in desk.ledger.redis.xrange(LedgerKey.EVENTS.of(job.id))]
    assert kinds[-1] == "state"


def test_events_whose_answer_was_lost_are_written_once(desk):
    class Deaf(Ledger):
        answers_lost = 0

        def do(self, call):
            answer = super().do(call)
            if call.op == "append" and self.answers_lost < 2:
                self.answers_lost += 1
                raise LedgerAway("ledger_unavailable", "the answer was lost")
            return answer

    job = desk.ledger.do(calls.acquire(desk.submit(), QUEUE, "me", 15))
    events = EventWriter(Deaf(desk.settings.redis_url))
    for text in ("once ", "and again"):
        events.put(job, "token", {"text": text})
        events.flush()
    assert text_of(desk, job.id) == "once and again"


def test_an_event_that_cannot_be_written_does_not_end_the_thread(desk):
    job = desk.ledger.do(calls.acquire(desk.submit(), QUEUE, "me", 15))
    events = EventWriter(desk.ledger, retry_seconds=10)
    events.put(job, "progress", {"step": object()})
    events.flush()
    events.put(job, "token", {"text": "x"})
    events.flush()
    assert text_of(desk, job.id) == "x"
