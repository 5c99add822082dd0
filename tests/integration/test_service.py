"""What every Celery service does beside its jobs."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import calls
from shared.names import TaskName
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from tests.support.eventually import eventually
from tests.support.old_jobs import take_out_of_lanes

PROGRAM = """
import sys
from shared.names import TaskName
from shared.worker.service import Service
from shared.settings import Settings

service = Service(Settings(), "test", ["train"], concurrency=1)
service.on(TaskName.TRAIN, lambda attempt: attempt.succeed({}))
service.run_once(float(sys.argv[1]))
"""


TOLD_IN_A_FINALISER = """
import os, signal
from shared.worker.service import end_on_sigterm

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

end_on_sigterm()
Late()
print("goes on", flush=True)
"""


def run_once(settings, idle_seconds, before=""):
    env = os.environ | {"SIGNALBOX_REDIS_URL": settings.redis_url, "SIGNALBOX_BROKER_URL": settings.broker_url}
    return subprocess.run(
        [sys.executable, "-c", before + PROGRAM, str(idle_seconds)], env=env, timeout=60, check=False
    ).returncode


def test_a_service_that_is_to_do_one_job_leaves_the_next_one_in_the_queue(settings, ledger):
    bus = Bus(make_celery(settings, "test"))
    job_ids = [new_job_id("t") for _ in range(2)]
    for job_id in job_ids:
        job = NewJob(id=job_id, tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
        bus.send(ledger.do(calls.create(job, 60)).send)

    def states():
        return [str(ledger.do(calls.get(job_id)).state) for job_id in job_ids]

    assert run_once(settings, 30) == 0
    assert states() == ["succeeded", "queued"]
    assert run_once(settings, 30) == 0
    assert states() == ["succeeded", "succeeded"]


def test_a_job_and_its_message_from_before_messages_only_woke_are_served(settings, ledger):
    job_id = new_job_id("t")
    job = NewJob(id=job_id, tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
    ledger.do(calls.create(job, 60))
    take_out_of_lanes(ledger, "train", job_id)
    make_celery(settings, "test").send_task(
        TaskName.TRAIN, args=[{"job_id": job_id}], task_id=job_id, queue="train", headers={"sent_ms": "1000.500"}
    )
    assert run_once(settings, 30) == 0
    assert ledger.do(calls.get(job_id)).state == "succeeded"


def test_a_service_that_is_to_do_one_job_gives_up_where_none_comes(settings):
    began = time.monotonic()
    assert run_once(settings, 0.1) == 0
    assert time.monotonic() - began < 30


def test_a_service_told_to_end_while_it_loads_ends(tmp_path):
    program = (
        "import time; from shared.worker.service import end_on_sigterm as e; e(); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as loading:
        loading.stdout.readline()
        loading.terminate()
        assert loading.wait(10) == 0


def test_a_service_told_to_end_while_a_finaliser_ran_takes_no_job(settings, ledger):
    """Python drops what a signal handler raises there."""
    job_id = new_job_id("t")
    job = NewJob(id=job_id, tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
    Bus(make_celery(settings, "test")).send(ledger.do(calls.create(job, 60)).send)
    assert run_once(settings, 5, before=TOLD_IN_A_FINALISER) == 0
    assert ledger.do(calls.get(job_id)).state == "queued"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return Path.write_text, (self._mark, "boom")


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/x-yaml"])
def test_a_message_that_is_no_json_is_thrown_away_unread_and_the_next_one_is_served(
    settings, ledger, tmp_path, content_type
):
    celery = make_celery(settings, "test")
    with celery.connection_for_write() as connection:
        connection.SimpleQueue("train").producer.publish(
            pickle.dumps(Bomb(tmp_path / "mark")),
            routing_key="train",
            exchange="train",
            declare=[],
            content_type=content_type,
            content_encoding="binary",
            headers={"task": "signalbox.train", "id": "x"},
        )
    job_id = new_job_id("t")
    job = NewJob(id=job_id, tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
    Bus(celery).send(ledger.do(calls.create(job, 60)).send)
    with redis.Redis.from_url(settings.broker_url) as broker:
        assert broker.llen("train") == 2
    assert run_once(settings, 30) == 0
    assert ledger.do(calls.get(job_id)).state == "succeeded"
    assert not (tmp_path / "mark").exists()


LATE = """
from shared.names import TaskName
from shared.worker.service import Service
from shared.settings import Settings

service = Service(Settings(), "test", ["train"], concurrency=1)


def work(attempt):
    if attempt.job.queue == "train":
        service.serve_base("pin")
        attempt.hand_over("train@pin")
    attempt.succeed({})


service.on(TaskName.TRAIN, work)
service.run()
"""


def test_a_running_service_consumes_what_was_left_to_its_base_model(settings, ledger):
    job = NewJob(id=new_job_id("t"), tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
    Bus(make_celery(settings, "test")).send(ledger.do(calls.create(job, 60)).send)
    env = os.environ | {"SIGNALBOX_REDIS_URL": settings.redis_url, "SIGNALBOX_BROKER_URL": settings.broker_url}
    with subprocess.Popen([sys.executable, "-c", LATE], env=env) as running:
        try:
            eventually(lambda: ledger.do(calls.get(job.id)).state == "succeeded", "the job came back to the service")
        finally:
            running.terminate()
    done = ledger.do(calls.get(job.id))
    assert (done.queue, done.attempt, done.lost_leases) == ("train@pin", 2, 0)


BUSY = """
from celery.worker import state
from shared.names import TaskName
from shared.worker.service import Service
from shared.settings import Settings

service = Service(Settings(), "test", ["train", "select"], concurrency=1)
service.on(TaskName.TRAIN, lambda attempt: attempt.succeed({}))
service.run()
print(sum(state.total_count.values()), flush=True)
"""


def test_a_thread_that_has_done_a_job_takes_the_next_message_itself(settings, ledger):
    bus = Bus(make_celery(settings, "test"))
    jobs = [
        NewJob(id=new_job_id("t"), tenant_id="t", kind=JobKind.TRAIN, stage=Stage.TRAIN, queue="train", body={})
        for _ in range(50)
    ]
    for job in jobs:
        bus.send(ledger.do(calls.create(job, 60)).send)
    env = os.environ | {"SIGNALBOX_REDIS_URL": settings.redis_url, "SIGNALBOX_BROKER_URL": settings.broker_url}
    with subprocess.Popen([sys.executable, "-c", BUSY], env=env, stdout=subprocess.PIPE, text=True) as running:
        try:
            eventually(lambda: ledger.do(calls.get(jobs[-1].id)).state == "succeeded", "the last job was done")
        finally:
            running.terminate()
        by_the_consumer = int(running.stdout.read().split()[-1])
    assert {ledger.do(calls.get(job.id)).state for job in jobs} == {"succeeded"}
    assert by_the_consumer == 1
