"""What a service is made of, on the test session's real servers and a tiny random model."""

import json

import pytest

from services.trainer.context import TrainerClients, TrainingContext
from services.trainer.handlers import train
from shared.contracts.jobs import JobKind, JobState, NewJob, new_job_id
from shared.contracts.manifests import AdapterManifest
from shared.contracts.rows import Row
from shared.contracts.training import parse_training
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.model.base import base_model_id, load_tokenizer
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.worker.attempt import Attempt, AttemptRunner
from shared.worker.event_writer import EventWriter
from shared.worker.leases import HeldJob, LeaseKeeper
from tests.e2e.conftest import TRAINING, rows
from tests.unit.model.conftest import tiny_folder, tiny_tokenizer

__all__ = ["tiny_folder", "tiny_tokenizer"]
LABELS = ["bank.accounts", "bank.cards", "travel.trips"]


@pytest.fixture
def attempts(ledger, settings, events):
    leases = LeaseKeeper(ledger, settings, owner="test", queues=[], info=dict)
    return AttemptRunner(ledger, Bus(make_celery(settings, "test")), leases, events, "test")


@pytest.fixture
def events(ledger):
    return EventWriter(ledger)


class Jobs:
    """Jobs of tenant `t` at every point of their lives."""

    def __init__(self, ledger):
        self._do = ledger.do
        self._redis = ledger.redis

    def new(self, kind, queue, body, **fields):
        job_id = new_job_id("t")
        stage = queue.split(".")[0]
        job = NewJob(id=job_id, tenant_id="t", kind=kind, stage=stage, queue=queue, body=body, **fields)
        self._do(calls.create(job, 60))
        return job_id

    def train(self, **body):
        return self.new(JobKind.TRAIN, "train", {**TRAINING, **body})

    def take(self, job_id, queue="train"):
        return self._do(calls.acquire(job_id, queue, "test", 60))

    def lose(self, job_id, queue="train"):
        """An attempt that went silent; the next one may begin."""
        job = self._do(calls.acquire(job_id, queue, "test", 0))
        self._do(calls.expire(queue))
        return job

    def lose_after(self, job_id, work, queue="train"):
        """An attempt that does its work and goes silent before it can say so; answers what came of it."""
        job = self._do(calls.acquire(job_id, queue, "test", 60))
        done = work(job)
        self._redis.zadd(LedgerKey.LEASED.of(queue), {job_id: 1})
        self._redis.hset(LedgerKey.JOB.of(job_id), "lease_until", 1)
        self._do(calls.expire(queue))
        return done

    def get(self, job_id):
        return self._do(calls.get(job_id))

    def cancel(self, job_id):
        self._do(calls.cancel(job_id, "t"))


@pytest.fixture
def jobs(ledger):
    return Jobs(ledger)


@pytest.fixture
def base_folder(tiny_folder):
    """The base model that jobs train on; tests on the real one override it."""
    return tiny_folder


@pytest.fixture
def clients(registry, store, ledger, settings, base_folder):
    """A trainer's clients; a data set for every label, and live workers for all groups."""
    store.ensure_bucket()
    for label in LABELS:
        registry.datasets.add("t", label, [Row(**row) for row in rows(label, 24)])
    ledger.do(calls.heartbeat("w", ["generate.bank", "generate.travel", "generate.base"], [], {}, 600))
    return TrainerClients(
        base_folder=base_folder,
        base_model=base_model_id(base_folder),
        base_manifest="d" * 64,
        tokenizer=load_tokenizer(base_folder),
        registry=registry,
        store=store,
        ledger=ledger,
        work_dir=settings.data_dir / "trainer",
        store_patience_seconds=0.1,
    )


@pytest.fixture
def adapters(clients, tmp_path):
    """An adapter for every label; nobody loads these."""
    return {label: add_adapter(clients, label, tmp_path / label) for label in LABELS}


def add_adapter(clients, label, folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(str(folder).encode())
    manifest = AdapterManifest(tenant_id="t", label=label, version=0, digest="", base_model=clients.base_model)
    return clients.registry.adapters.add(folder, manifest)


def attempt_at(job, ledger):
    """An attempt at a job that sends nothing."""
    return Attempt(job, HeldJob(job), ledger, None, EventWriter(ledger), retry_seconds=10)


def context_of(job, clients):
    """The context of an attempt at a job, without the door that opens it."""
    return TrainingContext(attempt_at(job, clients.ledger), parse_training(job.body), clients)


@pytest.fixture
def run(attempts, clients, jobs):
    """Run a queued training job to its end."""

    def to_end(job_id):
        attempts.run(job_id, "train", lambda attempt: train(attempt, clients))
        return jobs.get(job_id)

    return to_end


SELECTOR = {
    "kind": "selector.train",
    "labels": {label: label for label in LABELS[:2]},
    "promote": True,
    "min_accuracy": 0,
    "max_false_reject": 0,
}


@pytest.fixture
def first(run, jobs, adapters):
    """The job that made the current release."""
    job = run(jobs.train(**SELECTOR))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["promoted"], job.result
    return job
