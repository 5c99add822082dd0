"""What was lost is found and sent again; a backlog is never doubled. Real broker, real ledger."""

import contextlib
import json

import pytest

from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import Ledger, calls
from shared.ledger.calls import NotAcquired, Sent
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


def messages(reconciler, queue="select"):
    """The messages in a queue, oldest first."""
    return reconciler._broker.lrange(queue, 0, -1)[::-1]


def queued(reconciler, queue="select"):
    """Job ids of the messages in a queue, oldest first."""
    return [json.loads(message)["headers"]["id"] for message in messages(reconciler, queue)]


def take_all(ledger):
    """Take jobs until none waits; answers their ids."""
    taken = []
    with contextlib.suppress(NotAcquired):
        while True:
            taken.append(ledger.do(calls.acquire_next("select", "w", 60)).id)
    return taken


def test_ten_lost_among_many_are_sent_and_no_more(ledger, bus, reconciler):
    jobs = [submit(ledger, bus, is_sent=number % 30 != 7) for number in range(300)]
    assert reconciler.round() == 0  # they may be on their way
    assert reconciler.round() == 10
    assert reconciler.round() == reconciler.round() == 0
    assert len(queued(reconciler)) == 300
    assert take_all(ledger) == jobs


def test_a_backlog_is_never_doubled(ledger, bus, reconciler):
    jobs = [submit(ledger, bus) for _ in range(50)]
    for _ in range(4):
        assert reconciler.round() == 0
    assert queued(reconciler) == jobs


def test_what_was_missing_all_the_time_is_sent_and_not_what_came_last(ledger, bus, reconciler):
    submit(ledger, bus, is_sent=False)
    assert reconciler.round() == 0
    for _ in range(5):
        submit(ledger, bus, is_sent=False)
    assert reconciler.round() == 1
    assert reconciler.round() == 0
    assert reconciler.round() == 5


def test_a_message_that_came_while_it_was_counted_is_not_missing(ledger, bus, reconciler):
    submit(ledger, bus, is_sent=False)
    assert reconciler.round() == 0
    bus.send(Sent("job_late", "select"))
    assert reconciler.round() == 0
    reconciler._broker.flushall()
    assert reconciler.round() == 0  # its grace begins anew


def test_no_message_counts_as_lost_before_the_grace_time(ledger, bus, settings):
    patient = Reconciler(ledger, bus, settings.model_copy(update={"lost_after_seconds": 3600}), "me")
    submit(ledger, bus, is_sent=False)
    assert [patient.round() for _ in range(3)] == [0, 0, 0]


def test_a_message_for_a_job_that_has_gone_wakes_a_worker_for_another(ledger, bus, reconciler):
    gone, other = submit(ledger, bus), submit(ledger, bus, is_sent=False)
    ledger.do(calls.cancel(gone, "t"))
    assert reconciler.round() == reconciler.round() == 0
    assert queued(reconciler) == [gone]
    assert take_all(ledger) == [other]


def test_a_flushed_queue_comes_back_whole(ledger, bus, reconciler):
    jobs = [submit(ledger, bus) for _ in range(20)]
    reconciler._broker.flushall()
    reconciler.round()
    assert reconciler.round() == 20
    assert len(queued(reconciler)) == 20
    assert take_all(ledger) == jobs


@pytest.mark.parametrize("bad", ["no json", "[]", '{"headers": null}'])
def test_a_message_of_somebody_else_stops_nothing(ledger, bus, reconciler, bad):
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
    assert reconciler._broker.brpop("select", 10)
    reconciler.stop()
    assert take_all(ledger) == [job]


def test_after_an_outage_the_owners_of_leases_come_first(ledger, bus, quick, reconciler):
    away = Reconciler(Ledger("redis://127.0.0.1:1/0"), bus, quick, "other")
    assert away._work_if_leading() == quick.lease_seconds
    assert reconciler._work_if_leading() == quick.reconcile_seconds


def test_more_than_one_batch_of_lost_leases_comes_back_in_one_round(ledger, bus, reconciler):
    jobs = [submit(ledger, bus, is_sent=False) for _ in range(1001)]
    for _ in jobs:
        ledger.do(calls.acquire_next("select", "w", 0))
    assert reconciler.round() == 1001
    assert sorted(queued(reconciler)) == sorted(jobs)


def test_a_thousand_lost_messages_comes_back_in_one_round(ledger, bus, reconciler):
    jobs = [submit(ledger, bus, is_sent=False) for _ in range(1001)]
    reconciler.round()
    assert reconciler.round() == 1001
    assert len(queued(reconciler)) == len(jobs)


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
