"""The system with a vLLM server beside each worker, in containers, with vLLM's build for processors."""

import json

import pytest
import yaml
from signalbox import ConflictError

from services.cli.local.servers import free_ports
from tests.support.containers import (
    CARDS,
    LABELS,
    ROOT,
    TRIPS,
    Traffic,
    answered,
    ended,
    needs_docker,
    new_client,
    quick_file,
    release,
    started,
)
from tests.support.eventually import eventually
from tests.support.samples import TRAINING

FILE = ROOT / "docker-compose.vllm.yml"
SERVERS = ("vllm-bank", "vllm-travel")
ON_PROCESSORS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
CPU_TORCH = "${TORCH_SOURCE---index-url https://download.pytorch.org/whl/cpu}"
RESTART_SECONDS = 300

pytestmark = needs_docker


def without_cards(folder):
    """What differs on a machine without cards: the image, the tiny model's context, torch for processors."""
    written = yaml.safe_load(FILE.read_text())["services"]
    services = {}
    for name in SERVERS:
        command = written[name]["command"].replace("--max-model-len 8192", "--max-model-len 1024")
        services[name] = {
            "image": "signalbox/vllm-cpu:test",
            "build": {"context": str(ROOT), "target": "vllm-cpu", "args": {"TORCH_SOURCE": CPU_TORCH}},
            "command": f"{command} --enforce-eager",
            "environment": ON_PROCESSORS,
        }
    for name in ("selector", "trainer", "evaluate"):
        services[name] = {"build": {"args": {"TORCH_SOURCE": CPU_TORCH}}}
    # Compose's own tag, which no library writes: the cards go.
    lines = yaml.safe_dump({"services": services}, width=1000).splitlines()
    marked = [
        f"{line}\n    deploy: !reset {{}}" if line in {f"  {name}:" for name in services} else line for line in lines
    ]
    (folder / "processors.yml").write_text("\n".join(marked) + "\n")
    return folder / "processors.yml"


@pytest.fixture(scope="module")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory, port):
    folder = tmp_path_factory.mktemp("vllm-compose")
    own = (quick_file(folder, head_dim=32), without_cards(folder))
    with started(port, FILE, *own, project="signalbox-vllm-test") as compose:
        yield compose


@pytest.fixture(scope="module")
def released(stack, port):
    """Two adapters and a light selector, promoted."""
    client = new_client(stack, port)
    release(client)
    return client


def python(stack, service, program, program_name="python"):
    return stack("exec", "-T", service, program_name, "-c", program).strip()


@pytest.mark.parametrize(("text", "label"), [(CARDS, LABELS[0]), (TRIPS, LABELS[1])])
def test_a_job_is_answered_by_its_adapter_at_its_groups_server(stack, released, text, label):
    job = answered(released, text)
    assert (job["state"], job["label"]) == ("succeeded", label), job
    assert job["result"]["adapter_ref"] == f"{label}@1"
    cards = "import json, urllib.request as r; print(r.urlopen('http://127.0.0.1:8001/v1/models').read().decode())"
    served = json.loads(python(stack, f"vllm-{label.partition('.')[0]}", cards, "python3"))["data"]
    assert job["result"]["adapter"] in {card["id"] for card in served}


def test_the_base_model_answers_what_no_adapter_does(released):
    job = released.post("/v1/jobs", {"input": CARDS, "label": "base", "params": {"max_new_tokens": 4}})
    assert ended(released, f"/v1/jobs/{job['id']}")["state"] == "succeeded"


def test_a_server_sees_adapters_and_models_and_writes_neither(stack, released):
    looks = (
        "import os; print(sorted(os.listdir('/cache')), os.path.isdir('/data'), os.path.isdir('/run/secrets'),"
        " os.access('/cache/adapters', os.W_OK), os.access('/models', os.W_OK), os.getuid(), os.getgid())"
    )
    seen = python(stack, "vllm-bank", looks, "python3")
    assert seen == "['adapters'] False False False False 10002 10001"
    assert python(stack, "worker-bank", "import os; print(oct(os.stat('/cache').st_mode & 0o777))") == "0o750"


@pytest.mark.parametrize("service", ["api", "selector", "trainer", "worker-travel"])
def test_nobody_but_its_worker_reaches_a_server(stack, released, service):
    knock = (
        "import socket\ntry:\n    socket.create_connection(('vllm-bank', 8001), 3)\n"
        "except OSError:\n    print('closed')\nelse:\n    print('open')"
    )
    assert python(stack, service, knock) == "closed"
    assert python(stack, "worker-bank", knock) == "open"


def test_the_servers_cache_is_exported_by_its_worker(stack, released):
    read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9100/metrics').read().decode())"

    def looked_up():
        lines = python(stack, "worker-bank", read).splitlines()
        found = [line.split()[-1] for line in lines if line.startswith("signalbox_prefix_cache_queries_total")]
        return float(found[0]) > 0

    answered(released, CARDS)
    eventually(looked_up, "the worker has looked at its server's metrics")


def test_a_release_above_what_the_servers_were_started_with_is_refused(released):
    settings = {**TRAINING["settings"], "rank": 32}
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": LABELS[0], "settings": settings}
    job = released.post("/v1/training/jobs", body)
    assert ended(released, f"/v1/training/jobs/{job['id']}")["state"] == "succeeded"
    candidate = released.edit_release(add={LABELS[0]: f"{LABELS[0]}@2"})
    with pytest.raises(ConflictError, match="started with --max-lora-rank 16") as caught:
        released.promote(candidate.id)
    assert caught.value.code == "adapter_above_server"


def test_a_server_that_is_killed_under_load_loses_no_job(stack, released):
    traffic = Traffic(released)
    with traffic.flowing():
        eventually(lambda: len(traffic.accepted) > 5, "jobs come in")
        stack("exec", "-T", "vllm-bank", "sh", "-c", "kill -KILL -1 || true")  # all but the container's init

        def is_back():
            (container,) = stack.inspect(stack("ps", "-q", "vllm-bank").strip())
            return container["RestartCount"] > 0 and container["State"].get("Health", {}).get("Status") == "healthy"

        eventually(is_back, "the server was started again", seconds=RESTART_SECONDS)
        sent = len(traffic.accepted)
        eventually(lambda: len(traffic.accepted) > sent + 5, "jobs still come in")
    states = [ended(released, f"/v1/jobs/{job}")["state"] for job in traffic.accepted]
    assert set(states) == {"succeeded"}, states
