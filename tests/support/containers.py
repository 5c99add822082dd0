"""What containers of their own need: Docker, a project beside whatever else runs, a release made in it.

`SIGNALBOX_TEST_COMPOSE_FILES` names further Compose files, separated by colons: a mirror, certificates, wheels.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from signalbox import Signalbox, SignalboxError

from tests.support.samples import TRAINING, upload
from tests.support.tiny_model import save_tiny_model

ROOT = Path(__file__).parents[2]
# A tiny random model learns little.
LOOSE_GATE = {"SIGNALBOX_GATE_MIN_ACCURACY": "0", "SIGNALBOX_GATE_MAX_LOSS": "0.2"}
QUICK = {
    **LOOSE_GATE,
    "SIGNALBOX_HEARTBEAT_SECONDS": "1",
    "SIGNALBOX_POINTER_POLL_SECONDS": "0.5",
    "SIGNALBOX_RECONCILE_SECONDS": "1",
}
SERVICES = ("api", "selector", "worker-bank", "worker-travel", "trainer")
BUILD_SECONDS = 1800
LABELS = ("bank.cards", "travel.trips")
CARDS, TRIPS = "card limit declined apr", "flight hotel visa passport"


def docker(*args, check=True, env=None, seconds=120):
    done = subprocess.run(
        ["docker", *args], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(args)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def why_not():
    """Why there is no Docker here; empty where there is."""
    if shutil.which("docker") is None:
        return "the program docker is missing"
    done = subprocess.run(["docker", "compose", "ls"], capture_output=True, text=True, check=False)
    return done.stderr.strip() and f"no Docker engine answers: {done.stderr.strip()[-200:]}" if done.returncode else ""


needs_docker = [
    pytest.mark.slow,
    pytest.mark.timeout(BUILD_SECONDS + 900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "Docker is here"),
]
"""Marks of a module whose tests run containers."""


def quick_file(folder, **options):
    """A Compose file with a tiny model in the volume of models, and services that are quick to notice things."""
    models = folder / "models"
    save_tiny_model(models / "tiny", **options)
    for path in (models, *models.rglob("*")):
        path.chmod(0o777)  # the containers' user is not the test's
    bind = {"type": "none", "o": "bind", "device": str(models)}
    content = {
        "services": {name: {"environment": QUICK} for name in SERVICES},
        "volumes": {"models": {"driver_opts": bind}},
    }
    (folder / "quick.yml").write_text(yaml.safe_dump(content))
    return folder / "quick.yml"


def further_files():
    """What `SIGNALBOX_TEST_COMPOSE_FILES` names."""
    return list(filter(None, os.environ.get("SIGNALBOX_TEST_COMPOSE_FILES", "").split(":")))


class Stack:
    """A Compose project of the test's own, beside whatever else runs on this machine."""

    def __init__(self, files, env, project="signalbox-test"):
        self.project = project
        self._options = ["compose", "-p", self.project, *(x for file in files for x in ("-f", str(file)))]
        self._env = os.environ | env

    def __call__(self, *args, seconds=300, **env):
        return docker(*self._options, *args, env=self._env | env, seconds=seconds)

    def up(self, *services, **env):
        self("up", "--wait", "--detach", *services, **env)

    def signalbox(self, *args):
        """The command line in its container, as the operator."""
        return json.loads(self("run", "--rm", "-T", "cli", *args, "--json"))

    def lose(self, service):
        """Take a server away with its disk, which `secrets` once gave its owner and does again."""
        self("rm", "--stop", "--force", service, "secrets")
        docker("volume", "rm", f"{self.project}_{service}")

    def inspect(self, *args):
        return json.loads(docker("inspect", *args))

    def containers(self):
        return self.inspect(*self("ps", "-a", "-q").split())


@contextlib.contextmanager
def started(port, *files, project="signalbox-test"):
    """The usual files with these, built and started; the ends of their logs are shown by pytest where a test fails."""
    usual = [ROOT / "docker-compose.yml", ROOT / "docker-compose.seaweedfs.yml"]
    env = {"SIGNALBOX_BASE_MODEL": "tiny", "SIGNALBOX_LISTEN": f"127.0.0.1:{port}", "SIGNALBOX_TAG": "test"}
    compose = Stack([*usual, *files, *further_files()], env, project)
    try:
        compose("up", "--build", "--wait", "--detach", seconds=BUILD_SECONDS)
        yield compose
    finally:
        sys.stdout.write(compose("logs", "--no-color", "--tail", "20"))
        compose("down", "--volumes", "--timeout", "50")


def release(client):
    """Make two adapters and a light selector by the trainer's container, and promote them."""
    for label in LABELS:
        train_adapter(client, label)
    train_selector(client)


def new_client(stack, port):
    made = stack.signalbox("keys", "create", "--scope", "admin")
    return Signalbox(f"http://127.0.0.1:{port}", made["key"])


def ended(client, path):
    for _ in client.events(f"{path}/events"):
        pass
    return client.get(path)


def train_adapter(client, label):
    """The label's next adapter, from rows that are uploaded for it."""
    upload(client, label)
    job = client.post("/v1/training/jobs", {"kind": "adapter.train", "label": label, "dataset": label, **TRAINING})
    assert ended(client, f"/v1/training/jobs/{job['id']}")["state"] == "succeeded"


def train_selector(client, **settings):
    """A light selector over both labels, current at the end."""
    body = {"kind": "selector.train", "labels": {label: label for label in LABELS}, "selector": "light"}
    body |= {"promote": True, "min_accuracy": 0, "max_false_reject": 0} | settings
    job = client.post("/v1/training/jobs", body)
    job = ended(client, f"/v1/training/jobs/{job['id']}")
    assert job["result"]["promoted"], job["result"]


def answered(client, text, **more):
    job = client.post("/v1/jobs", {"input": text, "params": {"max_new_tokens": 8}, **more})
    return ended(client, f"/v1/jobs/{job['id']}")


def submitted(client, text):
    return client.post("/v1/jobs", {"input": text, "params": {"max_new_tokens": 8}})["id"]


class Traffic:
    """Somebody who sends a job every now and then, and comes back where the API is away."""

    def __init__(self, client, pause_seconds=0.3):
        self._client = client
        self._pause_seconds = pause_seconds
        self._over = threading.Event()
        self.accepted = []

    @contextlib.contextmanager
    def flowing(self):
        sender = threading.Thread(target=self._send)
        sender.start()
        try:
            yield
        finally:
            self._over.set()
            sender.join()

    def _send(self):
        while not self._over.wait(self._pause_seconds):
            with contextlib.suppress(SignalboxError):  # an API that is being replaced
                self.accepted.append(submitted(self._client, (CARDS, TRIPS)[len(self.accepted) % 2]))
