"""A supervised system of real processes, with what tests ask of it."""

import json
import os
import signal

import psutil

from shared.ledger.keys import LedgerKey
from tests.support.eventually import eventually


class System:
    """The supervised system with what tests ask of it."""

    def __init__(self, supervisor, client):
        self.supervisor = supervisor
        self.client = client
        self.redis = supervisor.ledger.redis

    def child(self, name):
        return next(child for child in self.supervisor.children if child.name == name)

    def server(self, name):
        return next(server for server in self.supervisor.servers if server.name == name)

    def submit(self, text="what is my card limit", **more):
        return self.client.post("/v1/jobs", {"input": text, **more})["id"]

    def job(self, job_id):
        return self.client.get(f"/v1/jobs/{job_id}")

    def ended(self, job_id, kind="jobs"):
        """The job once it has ended, awaited by its event stream."""
        for _ in self.client.events(f"/v1/{kind}/{job_id}/events"):
            pass
        return self.client.get(f"/v1/{kind}/{job_id}")

    def train(self, body):
        return self.ended(self.client.post("/v1/training/jobs", body)["id"], "training/jobs")

    def worker_of(self, job_id):
        """The process that holds a job now."""
        owner = self.redis.hget(LedgerKey.JOB.of(job_id), "owner")
        info = self.redis.get(LedgerKey.PROCESS.of(owner)) if owner else None
        return psutil.Process(json.loads(info)["pid"]) if info else None

    def kill(self, name, sig=signal.SIGKILL):
        os.kill(self.child(name).process.pid, sig)

    def wait_serving(self):
        eventually(lambda: not self.supervisor._not_ready(), "every queue has a consumer again", 120)
