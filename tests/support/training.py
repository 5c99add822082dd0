"""Training jobs at every point of their lives, and adapters that nobody loads."""

import json

from shared.contracts.jobs import JobKind, NewJob, new_job_id
from shared.contracts.manifests import AdapterManifest
from shared.ledger import calls
from tests.support.samples import TRAINING

LABELS = ["bank.accounts", "bank.cards", "travel.trips"]
SELECTOR = {
    "kind": "selector.train",
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
        self._do(calls.create(NewJob(id=job_id, tenant_id="t", kind=kind, queue=queue, body=body, **fields), 60))
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
        self._redis.zadd(f"sb:leased:{queue}", {job_id: 1})
        self._redis.hset(f"sb:job:{job_id}", "lease_until", 1)
        self._do(calls.expire(queue))
        return done

    def get(self, job_id):
        return self._do(calls.get(job_id))

    def cancel(self, job_id):
        self._do(calls.cancel(job_id, "t"))


def add_adapter(context, label, folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(str(folder).encode())
    manifest = AdapterManifest(tenant_id="t", label=label, version=0, digest="", base_model=context.base_model)
    return context.registry.add_adapter(folder, manifest)
