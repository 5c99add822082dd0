"""The example of a base model over several nodes: rendered, and held against schemas, settings and itself."""

import re

import kubernetes_validate
import pytest

from shared.settings import Settings
from tests.support.overlays import render

WORKERS, SERVERS = "adapter-worker", "vllm"


@pytest.fixture
def objects():
    return render("vllm-nodes")


@pytest.fixture
def server(objects):
    (one,) = [one for one in objects.of("StatefulSet") if one["metadata"]["name"] == SERVERS]
    return one


def test_kubernetes_knows_every_field(objects):
    for version in ("1.28", "1.33"):
        for one in objects:
            kubernetes_validate.validate(one, version, strict=True)


def test_nodes_and_cards_are_as_many_as_the_server_is_told(server):
    (container,) = server["spec"]["template"]["spec"]["containers"]
    told = dict(re.findall(r"--([\w-]+) (\d+)", container["args"][0]))
    assert told["nnodes"] == told["pipeline-parallel-size"] == str(server["spec"]["replicas"])
    assert told["tensor-parallel-size"] == container["resources"]["limits"]["nvidia.com/gpu"]


def test_worker_and_server_are_told_the_same(objects, server):
    (worker,) = [one for one in objects.of("Deployment") if one["metadata"]["name"] == "adapter-worker-all"]
    (own,) = worker["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in own["env"]}
    (container,) = server["spec"]["template"]["spec"]["containers"]
    told = dict(re.findall(r"--([\w-]+) (\d+)", container["args"][0]))
    assert environment["SIGNALBOX_VLLM_MAX_LORA_RANK"] == told["max-lora-rank"]
    assert environment["SIGNALBOX_ADAPTER_SLOTS"] == told["max-cpu-loras"]
    assert environment["SIGNALBOX_WORKER_SLOTS"] == told["max-num-seqs"]
    assert environment["SIGNALBOX_VLLM_URL"] == f"http://vllm-0.{server['spec']['serviceName']}:{told['port']}"
    assert environment["SIGNALBOX_GROUPS"] == "*"
    assert {name.removeprefix("SIGNALBOX_").lower() for name in environment} <= set(Settings.model_fields)


def test_worker_and_server_share_adapters_which_the_server_only_reads(objects, server):
    pod = server["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["adapters"]["readOnly"] is mounts["models"]["readOnly"] is True
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (10002, 10001)
    assert not [volume for volume in pod["volumes"] if "secret" in volume]
    claims = {one["metadata"]["name"] for one in objects.of("PersistentVolumeClaim")}
    assert {"adapters", "models"} <= claims


def test_nobody_but_workers_and_the_other_nodes_reaches_a_server(objects):
    policies = {one["metadata"]["name"]: one["spec"] for one in objects.of("NetworkPolicy")}
    sources = [
        source["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in policies[SERVERS]["ingress"]
        for source in rule["from"]
    ]
    assert sources == [WORKERS, SERVERS]
    (rule,) = policies["workers-to-vllm"]["egress"]
    assert rule["ports"] == [{"port": 8001}]


def test_it_keeps_to_the_restricted_standard(server):
    pod = server["spec"]["template"]["spec"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)
    held = pod["containers"][0]["securityContext"]
    assert (held["allowPrivilegeEscalation"], held["readOnlyRootFilesystem"]) == (False, True)
    assert held["capabilities"] == {"drop": ["ALL"]}
