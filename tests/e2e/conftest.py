"""A whole system of real processes on a tiny random model, started once, with short leases so that faults heal fast."""

import json
import os
import random
import signal
import threading
import time

import psutil
import pytest
from signalbox import Signalbox

from services.cli.local.servers import free_ports
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.ledger.keys import LedgerKey
from shared.settings import Settings
from tests.unit.model.tiny import save_tiny_model

WORDS = {
    "bank.accounts": ["balance", "transfer", "account", "statement", "deposit", "savings", "branch"],
    "bank.cards": ["card", "limit", "declined", "apr", "rewards", "expired", "cashback"],
    "travel.trips": ["flight", "hotel", "visa", "luggage", "passport", "airport", "ticket"],
}
TRAINING = {"settings": {"epochs": 1, "rank": 2, "max_length": 400, "learning_rate": 0.02, "checkpoint_steps": 2}}


def eventually(check, what, seconds=60):
    """The first true answer of `check`; fails with `what` when there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = check()
        if answer:
            return answer
        threading.Event().wait(0.05)
    pytest.fail(f"not within {seconds} s: {what}")


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


def rows(label, count, seed=0):
    made = random.Random(f"{label}{seed}")
    for _ in range(count):
        text = " ".join(made.choices(WORDS[label], k=6))
        yield {"instruction": "name the first word", "input": text, "output": text.split()[0]}


def upload(client, label, count=24):
    content = "\n".join(json.dumps(row) for row in rows(label, count))
    return client.post("/v1/datasets", content=content.encode(), params={"name": label})["id"]


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    base = save_tiny_model(folder / "base")
    settings = Settings(
        data_dir=folder / "data",
        base_model=str(base),
        api_port=free_ports(1)[0],
        heartbeat_seconds=0.5,
        lease_seconds=3.0,
        reconcile_seconds=0.5,
        lost_after_seconds=2.0,
        drain_seconds=20.0,
        pointer_poll_seconds=0.5,
        engine_dtype="float32",  # as the reference path computes
    )
    supervisor = Supervisor(settings, ["bank,base", "bank,base", "travel"])
    try:
        supervisor.start()
        key = announce(supervisor)
        supervisor.wait_ready(150)
        yield System(supervisor, Signalbox(supervisor.api_url, key))
    finally:
        supervisor.stop()


@pytest.fixture(scope="session")
def released(system):
    """The system with three adapters and a selector, all made by queued training jobs, promoted."""
    for label in WORDS:
        upload(system.client, label)
    for label in WORDS:
        job = system.train({"kind": "adapter.train", "label": label, "dataset": label, **TRAINING})
        assert job["state"] == "succeeded", job["error"]
    labels = {label: label for label in ("bank.accounts", "bank.cards")}
    body = {"kind": "selector.train", "labels": labels, "promote": True, "min_accuracy": 0, **TRAINING}
    job = system.train(body | {"max_false_reject": 0})
    assert job["state"] == "succeeded", job["error"]
    assert job["result"]["promoted"], job["result"]
    return system
