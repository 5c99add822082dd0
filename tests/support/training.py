"""Training jobs at every point of their lives, and adapters that nobody loads."""

import json

from services.trainer.context import TrainingContext
from shared.contracts.jobs import JobKind, NewJob, new_job_id
from shared.contracts.manifests import AdapterManifest
from shared.contracts.training import parse_training
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.worker.attempt import Attempt
from shared.worker.event_writer import EventWriter
from shared.worker.leases import HeldJob
from tests.support.samples import TRAINING

LABELS = ["bank.accounts", "bank.cards", "travel.trips"]
SELECTOR = {
    "kind": "selector.train",
    "selector": "cascade",
    "labels": {label: label for label in LABELS[:2]},
    "promote": True,
    "min_accuracy": 0,
    "max_false_reject": 0,
}


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

    def train(self, *, key="", **body):
        return self.new(JobKind.TRAIN, "train", {**TRAINING, **body}, key=key)

    def new_training(self, **body):
        """A training job with the settings of the product."""
        return self.new(JobKind.TRAIN, "train", body)

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
