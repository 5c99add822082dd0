"""What the overlays for NVIDIA cards promise: `vllm`, which a plan writes, and `gpu` with our own engine."""

import re
import shutil

import pytest
import yaml

from services.cli.gpu.files import write_plan
from services.cli.gpu.memory import GIB, host_gib
from services.cli.gpu.overlay import overlay_files
from services.cli.gpu.plan import make_plan
from shared.settings import Settings
from tests.support.gpu_plans import DOMAINS, base, cards, needs
from tests.support.overlays import ROOT, render

CARD = "nvidia.com/gpu"
TWO_GROUPS = make_plan(base(), needs(16, groups=("bank", "travel")), cards(4, are_shared=False))
FORTY = make_plan(base(), needs(40), cards(8, are_shared=False))
SPREAD = make_plan(base(), needs(12, groups=("tech_support",)), cards(8, 24, each=4, are_shared=False))


@pytest.fixture(
    scope="module", params=[TWO_GROUPS, FORTY, SPREAD], ids=["two groups", "forty adapters", "four cards a server"]
)
def planned(request, tmp_path_factory):
    """A plan, and what kubectl renders of the files that it writes."""
    tmp_path = tmp_path_factory.mktemp("planned")
    shutil.copytree(ROOT / "monitoring", tmp_path / "monitoring")
    k8s = shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    write_plan(request.param, "k8s", k8s / "overlays" / "vllm")
    return request.param, render("vllm", k8s)


def pods(objects):
    """Of each server its worker, itself and the pod's template, by its name."""
    found = {}
    for one in objects.of("Deployment"):
        template = one["spec"]["template"]
        name = template["metadata"]["labels"].get("signalbox.dev/group")
        if name:
            worker, server = template["spec"]["containers"]
            found[name] = (worker, server, template["spec"])
    return found


def environment(container):
    return {one["name"]: one.get("value") for one in container["env"]}


def options(server):
    """The server's arguments, with its variables put in as the kubelet does."""
    values = environment(server) | {"SIGNALBOX_BASE_MODEL": "/models/smollm2"}
    filled = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in server["args"]]
    return dict(word.partition("=")[::2] for word in filled)


def test_the_overlay_that_is_here_is_a_plan_for_four_cards():
    folder = ROOT / "k8s" / "overlays" / "vllm"
    here = {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.yaml")}
    assert here == overlay_files(TWO_GROUPS)


def test_each_server_of_the_plan_is_a_deployment_with_its_groups_its_cards_and_what_fits(planned):
    plan, objects = planned
    found = pods(objects)
    assert set(found) == {server.name for server in plan.servers}
    for one in plan.servers:
        worker, server, _ = found[one.name]
        told = options(server)
        assert environment(worker)["SIGNALBOX_GROUPS"] == ",".join(one.groups)
        assert server["resources"]["limits"][CARD] == told["--tensor-parallel-size"] == str(len(one.cards))
        assert (told["--max-loras"], told["--max-lora-rank"]) == (str(one.fit.slots), str(one.fit.rank))
        assert (told["--max-cpu-loras"], told["--max-num-seqs"]) == (str(one.kept), str(one.requests))
        assert told["--max-model-len"] == str(plan.cards.longest)
        assert float(told["--gpu-memory-utilization"]) == one.utilization


def test_worker_and_server_are_told_the_same(planned):
    for worker, server, _ in pods(planned[1]).values():
        own, told = environment(worker), options(server)
        assert own["SIGNALBOX_ENGINE"] == "vllm"
        assert own["SIGNALBOX_VLLM_URL"] == f"http://{told['--host']}:{told['--port']}"
        assert own["SIGNALBOX_VLLM_MAX_LORA_RANK"] == told["--max-lora-rank"]
        assert own["SIGNALBOX_ADAPTER_SLOTS"] == told["--max-cpu-loras"]
        assert own["SIGNALBOX_WORKER_SLOTS"] == told["--max-num-seqs"]
        assert planned[1].settings()["SIGNALBOX_BASE_MODEL"] == told["--model"]


def test_every_group_of_the_release_and_the_base_model_is_served(planned):
    plan, objects = planned
    served = {
        group for worker, _, _ in pods(objects).values() for group in environment(worker)["SIGNALBOX_GROUPS"].split(",")
    }
    assert served == {group for server in plan.servers for group in server.groups}
    assert "base" in served
    assert plan is not FORTY or served == {*DOMAINS, "base"}


def test_the_card_is_the_servers_and_the_worker_runs_on_processors(planned):
    for worker, server, spec in pods(planned[1]).values():
        assert CARD not in worker["resources"]["limits"]
        assert CARD in server["resources"]["limits"]
        assert spec["tolerations"][0]["key"] == CARD
        assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


def test_a_plan_takes_no_more_cards_than_there_are(planned):
    plan, objects = planned
    held = [int(c["resources"]["limits"].get(CARD, 0)) for _, c in objects.containers()]
    assert sum(held) <= plan.cards.count


def test_the_server_reads_the_base_model_and_the_adapters_alone_as_another_user_of_the_workers_group(planned):
    for worker, server, spec in pods(planned[1]).values():
        mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
        assert set(mounts) == {"models", "adapters", "server-tmp", "shm"}
        assert mounts["models"]["readOnly"] is mounts["adapters"]["readOnly"] is True
        (own,) = [mount for mount in worker["volumeMounts"] if mount["name"] == "adapters"]
        assert own["mountPath"] == mounts["adapters"]["mountPath"] == environment(worker)["SIGNALBOX_CACHE_FOLDER"]
        assert not own["mountPath"].startswith("/data")
        assert server["securityContext"]["runAsUser"] != spec["securityContext"]["runAsUser"]
        assert server["securityContext"]["runAsGroup"] == spec["securityContext"]["fsGroup"]
        assert "envFrom" not in server


def test_nobody_outside_its_pod_reaches_a_server(planned):
    for _, server, _ in pods(planned[1]).values():
        assert options(server)["--host"] == "127.0.0.1"
        assert "ports" not in server
    told = yaml.safe_dump([one for one in planned[1] if one["kind"] in ("Service", "NetworkPolicy")])
    assert "8001" not in told


def test_a_server_may_load_for_half_an_hour_and_its_worker_waits_as_long(planned):
    for worker, server, _ in pods(planned[1]).values():
        for container in (worker, server):
            probe = container["startupProbe"]
            assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert "/health" in server[probe]["exec"]["command"][-1]


def test_a_server_stays_until_its_worker_has_drained(planned):
    for worker, server, spec in pods(planned[1]).values():
        (port,) = [port["containerPort"] for port in worker["ports"]]
        assert str(port) in server["lifecycle"]["preStop"]["exec"]["command"][-1]
        assert spec["terminationGracePeriodSeconds"] > int(planned[1].settings()["SIGNALBOX_DRAIN_SECONDS"])


def test_memory_limits_follow_from_the_models_size(planned):
    plan, objects = planned
    found = pods(objects)
    for one in plan.servers:
        kept = one.fit.slot_bytes * one.kept // one.fit.slots
        limits = found[one.name][1]["resources"]["limits"]
        assert limits["memory"] == f"{host_gib('server', plan.base.weights, kept)}Gi"
    for name in ("selector", "trainer"):
        (deployment,) = [one for one in objects.of("Deployment") if one["metadata"]["name"] == name]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["memory"] == f"{host_gib(name, plan.base.weights)}Gi"
        assert container["resources"]["limits"].get(CARD) == (None if plan.helpers[name] is None else "1")


def test_what_computes_on_cards_has_a_large_shared_memory(planned):
    for name, template in [(name, template) for _, name, template in planned[1].pods()]:
        for container in template["spec"]["containers"]:
            if CARD in container["resources"]["limits"]:
                (shm,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm"]
                (volume,) = [one for one in template["spec"]["volumes"] if one["name"] == shm]
                assert volume["emptyDir"]["medium"] == "Memory", name


def test_a_later_plan_leaves_no_group_of_an_earlier_one(tmp_path):
    shutil.copytree(ROOT / "monitoring", tmp_path / "monitoring")
    k8s = shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    write_plan(FORTY, "k8s", k8s / "overlays" / "vllm")
    write_plan(TWO_GROUPS, "k8s", k8s / "overlays" / "vllm")
    assert {path.parent.name for path in (k8s / "overlays" / "vllm" / "groups").rglob("*.yaml")} == {"bank", "travel"}


def test_every_variable_of_a_worker_is_a_setting_that_exists(planned):
    for worker, _, _ in pods(planned[1]).values():
        names = {name.removeprefix("SIGNALBOX_").lower() for name in environment(worker)}
        assert names <= set(Settings.model_fields)


def own_engine():
    return {name: template["spec"] for _, name, template in render("gpu").pods() if name != "api-worker"}


@pytest.mark.parametrize("name", ["adapter-worker-bank", "selector", "trainer"])
def test_the_overlay_of_our_own_engine_gives_a_card_to_all_that_computes(name):
    spec = own_engine()[name]
    assert spec["containers"][0]["resources"]["limits"][CARD] == "1"
    assert spec["tolerations"][0]["key"] == CARD


def test_its_memory_is_that_of_the_base_model_which_it_names():
    text = (ROOT / "k8s" / "overlays" / "gpu" / "kustomization.yaml").read_text()
    weights = int(re.search(r"base model of (\d+) GiB in bfloat16", text)[1]) * GIB
    specs = own_engine()
    for name, process in {"adapter-worker-bank": "worker", "selector": "selector", "trainer": "trainer"}.items():
        resources = specs[name]["containers"][0]["resources"]
        assert resources["limits"]["memory"] == resources["requests"]["memory"] == f"{host_gib(process, weights)}Gi"
