"""The overlay `kube-here` in a real cluster: a group is scaled up and down under load, and nothing is lost.

`SIGNALBOX_TEST_CONTEXT` names kubectl's context of a node that has no more than this test may spoil: it makes the
namespace `signalbox` there and takes it away. The node has to see the images of this machine's Docker.
`SIGNALBOX_TEST_VLLM_IMAGE` (made by `docker build --target vllm-cpu`) puts a vLLM server beside the worker of `bank`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from signalbox import Signalbox

from services.cli.local.secrets import write_passwords
from services.cli.local.servers import free_ports
from tests.support.containers import CARDS, LABELS, LOOSE_GATE, Traffic, answered, ended, train_adapter, train_selector
from tests.support.eventually import eventually
from tests.support.tiny_model import save_tiny_model

ROOT = Path(__file__).parents[2]
CONTEXT = os.environ.get("SIGNALBOX_TEST_CONTEXT", "")
TAG = os.environ.get("SIGNALBOX_TEST_TAG", "test")
SERVICES = ("api", "cli", "models", "selector", "worker", "trainer")
BANK = "deployment/adapter-worker-bank"
SECONDS = 1200
VLLM_IMAGE = os.environ.get("SIGNALBOX_TEST_VLLM_IMAGE", "")
# What a plan writes, for a tiny model on processors.
STARTED_WITH = {
    "groups": "bank", "cards": "1", "maxLoras": "4", "maxLoraRank": "16", "maxCpuLoras": "8", "requests": "8",
    "maxModelLen": "1024", "memoryUtilization": "0.90", "memory": "4Gi",
}  # fmt: skip
WITHOUT_CARDS = """\
  - target: {kind: Deployment, name: adapter-worker-bank}
    patch: |-
      - {op: remove, path: /spec/template/spec/nodeSelector}
      - {op: remove, path: /spec/template/spec/tolerations}
      - {op: remove, path: /spec/template/spec/containers/1/resources/limits/nvidia.com~1gpu}
      - {op: replace, path: /spec/template/spec/containers/1/resources/requests, value: {cpu: 100m, memory: 512Mi}}
      - {op: add, path: /spec/template/spec/containers/1/args/-, value: --enforce-eager}
      - {op: add, path: /spec/template/spec/containers/1/env/-, value: {name: VLLM_CPU_KVCACHE_SPACE, value: "1"}}
      - {op: add, path: /spec/template/spec/containers/1/env/-, value: {name: VLLM_CPU_OMP_THREADS_BIND, value: nobind}}
      - {op: add, path: /spec/template/spec/containers/1/env/-, value: {name: OMP_NUM_THREADS, value: "1"}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not CONTEXT, reason="SIGNALBOX_TEST_CONTEXT names no cluster to try this in"),
]


def kubectl(*args, check=True, text=None):
    done = subprocess.run(
        ["kubectl", "--context", CONTEXT, "-n", "signalbox", *args],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0 or not check, f"kubectl {' '.join(args)}: {done.stderr[-3000:]}"
    return done.stdout


def overlay(folder, models):
    """`kube-here` with a tiny model that is there already, and the images under the test's tag."""
    shutil.copytree(ROOT / "k8s", folder)
    own = folder / "overlays" / "trial"
    own.mkdir()
    images = "".join(f"  - {{name: signalbox/{service}, newTag: {TAG}}}\n" for service in SERVICES)
    (own / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../kube-here]\n"
        f"images:\n{images}{vllm_image() if VLLM_IMAGE else ''}"
        "patches:\n  - patch: |-\n      $patch: delete\n      apiVersion: batch/v1\n      kind: Job\n"
        "      metadata: {name: models, namespace: signalbox}\n" + (WITHOUT_CARDS if VLLM_IMAGE else "")
    )
    if VLLM_IMAGE:
        with_server(folder / "overlays" / "hpa" / "groups" / "bank")
    volume = folder / "overlays" / "kube-here" / "models-volume.yaml"
    volume.write_text(volume.read_text().replace("/var/lib/signalbox-models", str(models)))
    settings = folder / "base" / "settings.env"
    gate = "".join(f"{name}={value}\n" for name, value in LOOSE_GATE.items())
    settings.write_text(settings.read_text().replace("/models/smollm2", "/models/tiny") + gate)
    cli = folder / "cli.yaml"
    cli.write_text(cli.read_text().replace("signalbox/cli:dev", f"signalbox/cli:{TAG}"))
    return own


def vllm_image():
    name, _, tag = VLLM_IMAGE.rpartition(":")
    return f"  - {{name: vllm/vllm-openai, newName: {name}, newTag: {tag}}}\n"


def with_server(group):
    """Put the component `vllm` on a group, started with what the test says."""
    listed = group / "kustomization.yaml"
    component = "../../../../components/"
    listed.write_text(
        listed.read_text().replace(f"{component}adapter-group,", f"{component}adapter-group, {component}vllm,")
    )
    file = group / "group.yaml"
    made = yaml.safe_load(file.read_text())
    made["spec"] |= STARTED_WITH
    file.write_text(yaml.safe_dump(made))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "tiny", head_dim=32)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)  # the pods' user is not the test's
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("cluster")
    secrets = folder / "secrets"
    write_passwords(secrets, ledger="ledger:6379", broker="broker:6379")
    rendered = overlay(folder / "k8s", models)
    try:
        kubectl("create", "namespace", "signalbox")
        for part in sorted(secrets.iterdir()):
            kubectl("create", "secret", "generic", f"{part.name}-secrets", f"--from-file={part}")
        kubectl("apply", "-k", str(rendered))
        kubectl("apply", "-f", str(folder / "k8s" / "cli.yaml"))
        # A group on cards may be replaced before its successor is there: it counts as available without any pod.
        for what in kubectl("get", "statefulsets,deployments", "-o", "name").split():
            kubectl("rollout", "status", what, f"--timeout={SECONDS}s")
        kubectl("wait", "--for=condition=Ready", "pod/cli", f"--timeout={SECONDS}s")
        yield
    finally:
        sys.stdout.write(
            kubectl("get", "pods,hpa,pdb", "-o", "wide", check=False)
        )  # shown by pytest where a test fails
        kubectl("delete", "namespace", "signalbox", "--wait=true", check=False)
        kubectl("delete", "persistentvolume", "signalbox-models", check=False)


@pytest.fixture(scope="module")
def client(cluster):
    port = free_ports(1)[0]
    forward = subprocess.Popen(
        ["kubectl", "--context", CONTEXT, "-n", "signalbox", "port-forward", "service/api", f"{port}:80"],
        stdout=subprocess.DEVNULL,
    )
    try:

        def alive():
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success

        eventually(alive, "the API answers")
        made = json.loads(kubectl("exec", "cli", "--", "signalbox", "keys", "create", "--scope", "admin", "--json"))
        client = Signalbox(f"http://127.0.0.1:{port}", made["key"])
        for label in LABELS:
            train_adapter(client, label)
        train_selector(client)
        yield client
    finally:
        forward.kill()
        forward.wait()


def bank_pods():
    listed = json.loads(kubectl("get", "pods", "-l", "signalbox.dev/group=bank", "-o", "json"))["items"]
    return [pod["metadata"]["name"] for pod in listed]


def test_a_job_is_routed_in_the_cluster(client):
    job = answered(client, CARDS)
    assert (job["state"], job["label"]) == ("succeeded", LABELS[0])


@pytest.mark.skipif(bool(VLLM_IMAGE), reason="three servers are more than a small node holds")
def test_a_group_goes_from_one_to_three_and_back_under_load_and_loses_nothing(client, record_property):
    traffic = Traffic(client, pause_seconds=0.05)
    assert len(bank_pods()) == 1
    with traffic.flowing():
        kubectl("scale", BANK, "--replicas=3")
        kubectl("rollout", "status", BANK, f"--timeout={SECONDS}s")
        assert len(bank_pods()) == 3
        three = len(traffic.accepted)
        eventually(lambda: len(traffic.accepted) > three + 100, "three have worked")
        kubectl("scale", BANK, "--replicas=1")
        eventually(lambda: len(bank_pods()) == 1, "two have drained and ended", SECONDS)
        one = len(traffic.accepted)
        eventually(lambda: len(traffic.accepted) > one + 100, "one works on")
    ends = [ended(client, f"/v1/jobs/{job}") for job in traffic.accepted]
    record_property("jobs", len(ends))
    assert {job["state"] for job in ends} == {"succeeded"}


def server_of_bank():
    (pod,) = json.loads(kubectl("get", "pods", "-l", "signalbox.dev/group=bank", "-o", "json"))["items"]
    (status,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == "vllm"]
    return status


@pytest.mark.skipif(not VLLM_IMAGE, reason="SIGNALBOX_TEST_VLLM_IMAGE names no image of a vLLM server")
def test_a_vllm_server_is_killed_under_load_and_nothing_is_lost(client, record_property):
    traffic = Traffic(client, pause_seconds=0.2)
    before = server_of_bank()["restartCount"]
    with traffic.flowing():
        eventually(lambda: len(traffic.accepted) > 5, "jobs come in")
        # All processes but the first, which ends when its engine is gone.
        kubectl("exec", BANK, "-c", "vllm", "--", "sh", "-c", "kill -KILL -1 || true", check=False)
        eventually(lambda: server_of_bank()["restartCount"] > before, "the kubelet starts it again", SECONDS)
        eventually(lambda: server_of_bank()["ready"], "it answers again", SECONDS)
    ends = [ended(client, f"/v1/jobs/{job}") for job in traffic.accepted]
    record_property("jobs", len(ends))
    assert {job["state"] for job in ends} == {"succeeded"}
