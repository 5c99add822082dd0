"""What was lost is found and sent again; a backlog is never doubled. Real broker, real ledger."""

import json

import pytest

from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import Ledger, calls
from shared.ledger.keys import LedgerKey
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.queue.reconciler import Reconciler


@pytest.fixture
def quick(settings):
    return settings.model_copy(update={"lost_after_seconds": 0.000001})


@pytest.fixture
def bus(quick):
    return Bus(make_celery(quick, "test"))


@pytest.fixture
def reconciler(ledger, bus, quick):
    return Reconciler(ledger, bus, quick, "me")


def submit(ledger, bus, *, is_sent=True):
    job = NewJob(
        id=new_job_id("t"),
        tenant_id="t",
        kind=JobKind.GENERATE,
        stage=Stage.SELECT,
        queue="select",
        body={"input": "x"},
    )
    created = ledger.do(calls.create(job, 60))
    if is_sent:
        bus.send(created.send)
    return job.id


def queued(reconciler, queue="select"):
    """Job ids of the messages in a queue, oldest first."""
    raw = reconciler._broker.lrange(queue, 0, -1)[::-1]
    return [json.loads(message)["headers"]["id"] for message in raw]


def test_ten_lost_among_many_are_found_and_none_else(ledger, bus, reconciler):
    kinds = [number % 30 == 7 for number in range(300)]
    jobs = [submit(ledger, bus, is_sent=not is_lost) for is_lost in kinds]
    last = submit(ledger, bus)
    lost = {job for job, is_lost in zip(jobs, kinds, strict=True) if is_lost}
    while queued(reconciler)[0] != last:  # the queue is worked off up to the last message
        reconciler._broker.rpop("select")
    taken = set(jobs) - lost
    for job in taken:
        ledger.do(calls.acquire(job, "select", "w", 60))
    assert reconciler.round() == 0  # suspects only
    assert reconciler.round() == 10
    assert set(queued(reconciler)) == lost | {last}
    assert reconciler.round() == reconciler.round() == 0


def test_a_backlog_is_never_doubled(ledger, bus, reconciler):
    jobs = [submit(ledger, bus) for _ in range(50)]
    for _ in range(4):
        assert reconciler.round() == 0
    assert queued(reconciler) == jobs


def test_a_flushed_queue_comes_back_whole(ledger, bus, reconciler):
    jobs = [submit(ledger, bus) for _ in range(20)]
    reconciler._broker.flushall()
    reconciler.round()
    assert reconciler.round() == 20
    assert sorted(queued(reconciler)) == sorted(jobs)


@pytest.mark.parametrize(
    "bad",
    ["no json", "[]", "{}", '{"headers": null}', '{"headers": {"sent_ms": "x"}}', '{"headers": {"sent_ms": Infinity}}'],
)
def test_a_message_of_somebody_else_stops_nothing_and_doubles_nothing(ledger, bus, reconciler, bad):
    reconciler._broker.rpush("select", bad)
    jobs = [submit(ledger, bus) for _ in range(5)]
    for _ in range(3):
        assert reconciler.round() == 0
    assert reconciler._broker.rpop("select").decode() == bad
    assert queued(reconciler) == jobs


def test_a_round_that_crashes_does_not_end_the_thread(ledger, bus, quick):
    class Crashing(Reconciler):
        crashes = 1

        def round(self):
            if self.crashes:
                self.crashes -= 1
                raise RuntimeError("a fault nobody thought of")
            return super().round()

    reconciler = Crashing(
        ledger, bus, quick.model_copy(update={"reconcile_seconds": 0.01, "lease_seconds": 0.01}), "me"
    )
    job = submit(ledger, bus, is_sent=False)
    reconciler.start()
    _, raw = reconciler._broker.brpop("select", 10)
    reconciler.stop()
    assert json.loads(raw)["headers"]["id"] == job


def test_after_an_outage_the_owners_of_leases_come_first(ledger, bus, quick, reconciler):
    away = Reconciler(Ledger("redis://127.0.0.1:1/0"), bus, quick, "other")
    assert away._work_if_leading() == quick.lease_seconds
    assert reconciler._work_if_leading() == quick.reconcile_seconds


def test_more_than_one_batch_of_lost_leases_comes_back_in_one_round(ledger, bus, reconciler):
    jobs = [submit(ledger, bus, is_sent=False) for _ in range(1001)]
    for job in jobs:
        ledger.do(calls.acquire(job, "select", "w", 0))
    assert reconciler.round() == 1001
    assert sorted(queued(reconciler)) == sorted(jobs)


def test_more_than_one_batch_of_lost_messages_comes_back_in_one_round(ledger, bus, reconciler):
    jobs = [submit(ledger, bus, is_sent=False) for _ in range(1001)]
    reconciler.round()
    assert reconciler.round() == 1001
    assert sorted(queued(reconciler)) == sorted(jobs)


def test_a_lease_that_ran_out_is_sent_again_at_once(ledger, bus, reconciler):
    job = submit(ledger, bus)
    reconciler._broker.flushall()
    ledger.do(calls.acquire(job, "select", "w", 0.000001))
    assert reconciler.round() == 1
    assert queued(reconciler) == [job]


def test_one_process_leads_until_it_goes_silent(ledger, bus, quick, reconciler):
    other = Reconciler(ledger, bus, quick, "other")
    assert reconciler._leads()
    assert not other._leads()
    ledger.redis.delete(LedgerKey.RECONCILER)
    assert other._leads()
    assert not reconciler._leads()


def test_a_cut_connection_puts_nothing_back_by_itself():
    import kombu.transport.redis

    assert kombu.transport.redis.Channel.do_restore is False
