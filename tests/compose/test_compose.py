"""The system in containers, built and brought up for real, on a tiny random model and SeaweedFS.

`SIGNALBOX_TEST_COMPOSE_FILES` names further Compose files, separated by colons: a mirror, certificates, wheels.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from services.cli.client import Client
from services.cli.servers import free_ports
from tests.e2e.conftest import TRAINING, eventually, upload
from tests.unit.model.tiny import save_tiny_model

ROOT = Path(__file__).parents[2]
QUICK = {
    "SIGNALBOX_HEARTBEAT_SECONDS": "1",
    "SIGNALBOX_POINTER_POLL_SECONDS": "0.5",
    "SIGNALBOX_RECONCILE_SECONDS": "1",
}
SERVICES = ("api", "selector", "worker-bank", "worker-travel", "trainer")
BUILD_SECONDS = 1800
API_BYTES = 300 * 10**6


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


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(BUILD_SECONDS + 900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "Docker is here"),
]


class Stack:
    """A Compose project of the test's own, beside whatever else runs on this machine."""

    def __init__(self, files, env):
        self._options = ["compose", "-p", "signalbox-test", *(x for file in files for x in ("-f", str(file)))]
        self._env = os.environ | env

    def __call__(self, *args, seconds=300):
        return docker(*self._options, *args, env=self._env, seconds=seconds)

    def inspect(self, *args):
        return json.loads(docker("inspect", *args))

    def containers(self):
        return self.inspect(*self("ps", "-a", "-q").split())


@pytest.fixture(scope="module")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory, port):
    folder = tmp_path_factory.mktemp("compose")
    models = folder / "models"
    save_tiny_model(models / "tiny")
    for path in (models, *models.rglob("*")):
        path.chmod(0o777)  # the containers' user is not the test's
    quick = folder / "quick.yml"
    bind = {"type": "none", "o": "bind", "device": str(models)}
    quick.write_text(
        yaml.safe_dump(
            {
                "services": {name: {"environment": QUICK} for name in SERVICES},
                "volumes": {"models": {"driver_opts": bind}},
            }
        )
    )
    more = filter(None, os.environ.get("SIGNALBOX_TEST_COMPOSE_FILES", "").split(":"))
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.seaweedfs.yml", quick, *more]
    env = {"SIGNALBOX_BASE_MODEL": "tiny", "SIGNALBOX_LISTEN": f"127.0.0.1:{port}", "SIGNALBOX_TAG": "test"}
    compose = Stack(files, env)
    try:
        compose("up", "--build", "--wait", "--detach", seconds=BUILD_SECONDS)
        yield compose
    finally:
        sys.stdout.write(compose("logs", "--no-color", "--tail", "20"))  # shown by pytest where a test fails
        compose("down", "--volumes", "--timeout", "50")


@pytest.fixture(scope="module")
def client(stack, port):
    made = json.loads(stack("run", "--rm", "-T", "cli", "keys", "create", "--scope", "admin", "--json"))
    return Client(f"http://127.0.0.1:{port}", made["key"])


def ended(client, path):
    for _ in client.events(f"{path}/events"):
        pass
    return client.get(path)


@pytest.fixture(scope="module")
def released(client):
    """Two adapters and a light selector, made by the trainer's container, promoted."""
    labels = ("bank.cards", "travel.trips")
    for label in labels:
        upload(client, label)
        job = client.post("/v1/training/jobs", {"kind": "adapter.train", "label": label, "dataset": label, **TRAINING})
        assert ended(client, f"/v1/training/jobs/{job['id']}")["state"] == "succeeded"
    body = {"kind": "selector.train", "labels": {label: label for label in labels}, "selector": "light"}
    body |= {"promote": True, "min_accuracy": 0, "max_false_reject": 0}
    job = client.post("/v1/training/jobs", body)
    job = ended(client, f"/v1/training/jobs/{job['id']}")
    assert job["result"]["promoted"], job
    return client


def answered(client, text, **more):
    job = client.post("/v1/jobs", {"input": text, "params": {"max_new_tokens": 8}, **more})
    return ended(client, f"/v1/jobs/{job['id']}")


@pytest.mark.parametrize(
    ("text", "label"), [("card limit declined apr", "bank.cards"), ("flight hotel visa passport", "travel.trips")]
)
def test_a_job_is_routed_to_the_container_of_its_group_and_answered(released, text, label):
    job = answered(released, text)
    assert (job["state"], job["label"]) == ("succeeded", label), job
    assert job["result"]["adapter_ref"] == f"{label}@1"


def test_every_part_is_ready_by_its_own_word(released, port):
    ready = httpx.get(f"http://127.0.0.1:{port}/readyz").json()
    assert {name for name, part in ready["parts"].items() if not part["ok"]} == set()


def test_a_restart_of_the_ledger_loses_no_job(stack, released):
    before = answered(released, "card limit declined apr")
    stack("kill", "ledger")
    stack("up", "--wait", "--detach", "ledger")
    after = eventually(lambda: released.get(f"/v1/jobs/{before['id']}"), "the job is known")
    assert after["result"] == before["result"]
    assert answered(released, "flight hotel visa")["state"] == "succeeded"


def test_no_container_has_more_rights_than_it_needs(stack):
    for container in stack.containers():
        name, host = container["Name"], container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert container["Config"]["User"] == "10001:10001", name


def test_no_password_is_shown_by_an_inspection(stack):
    shown = json.dumps(stack.containers())
    secrets = stack("exec", "-T", "selector", "sh", "-c", "cat /run/secrets/*")
    passwords = {word for word in secrets.replace(":", " ").replace("@", " ").split() if len(word) > 40}
    assert len(passwords) >= 2
    assert not any(password in shown for password in passwords)


def test_the_image_of_the_api_is_small_and_holds_no_torch(stack):
    (image,) = stack.inspect("signalbox/api:test")
    assert image["Size"] < API_BYTES
    find = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'numpy') if u.find_spec(n)])"
    assert stack("exec", "-T", "api", "python", "-c", find).strip() == "[]"


def test_services_told_to_stop_end_by_themselves(stack):
    stack("stop", *SERVICES)
    codes = {c["Config"]["Labels"]["com.docker.compose.service"]: c["State"]["ExitCode"] for c in stack.containers()}
    assert {name: codes[name] for name in SERVICES} == dict.fromkeys(SERVICES, 0)
