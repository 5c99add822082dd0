"""A plan as a Kustomize overlay: a Deployment for each server with its worker, fixed cards, no autoscaler."""

from collections.abc import Iterator

from services.cli.gpu.memory import host_gib
from services.cli.gpu.plan import Plan, Server
from services.cli.k8s_groups import KUSTOMIZATION

_OVERLAY = """\
# Written by `signalbox gpu plan{command}`: a vLLM server beside each worker, on NVIDIA cards. See docs/gpu.md.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: signalbox
resources:
  - ../../base
{groups}components: [../../components/prometheus, ../../components/release]
patches:
{patches}"""
_GROUP = """\
# What the components put into their objects; it is not applied itself.
apiVersion: signalbox.dev/v1
kind: AdapterGroup
metadata:
  name: "{server.name}"
  annotations: {{config.kubernetes.io/local-config: "true"}}
spec:
  groups: "{groups}"
  cards: "{cards}"
  maxLoras: "{server.fit.slots}"
  maxLoraRank: "{server.fit.rank}"
  maxCpuLoras: "{server.kept}"
  requests: "{server.requests}"
  maxModelLen: "{longest}"
  memoryUtilization: "{server.utilization:.2f}"
  memory: {memory}Gi
"""
_MEMORY = """\
  - target: {{kind: Deployment, name: {name}}}
    patch: |-
      - {{op: replace, path: /spec/template/spec/containers/0/resources/requests/memory, value: {memory}Gi}}
      - {{op: replace, path: /spec/template/spec/containers/0/resources/limits/memory, value: {memory}Gi}}
"""
_CARD = """\
      - {op: add, path: /spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu, value: "1"}
      - {op: add, path: /spec/template/spec/nodeSelector, value: {nvidia.com/gpu.present: "true"}}
      - op: add
        path: /spec/template/spec/tolerations
        value: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
      - {op: add, path: /spec/template/spec/volumes/-, value: {name: shm, emptyDir: {medium: Memory, sizeLimit: 2Gi}}}
      - {op: add, path: /spec/template/spec/containers/0/volumeMounts/-, value: {name: shm, mountPath: /dev/shm}}
"""
_TAKES_TURNS = """\
      # A new pod would wait for a card that the old one holds.
      - {op: replace, path: /spec/strategy, value: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}}
"""


def overlay_files(plan: Plan) -> dict[str, str]:
    """Return the overlay's files by their names in its folder."""
    files = {"kustomization.yaml": _overlay(plan)}
    for server in plan.servers:
        files[f"groups/{server.name}/kustomization.yaml"] = KUSTOMIZATION.format(component="vllm")
        files[f"groups/{server.name}/group.yaml"] = _group(plan, server)
    return files


def _overlay(plan: Plan) -> str:
    command = f" --cards {plan.cards.count} --memory-gib {plan.cards.memory / (1 << 30):g}"
    groups = "".join(f"  - groups/{server.name}\n" for server in plan.servers)
    return _OVERLAY.format(command=command, groups=groups, patches="".join(_patches(plan)))


def _group(plan: Plan, server: Server) -> str:
    kept_bytes = server.fit.slot_bytes * server.kept // server.fit.slots
    return _GROUP.format(
        server=server,
        groups=",".join(server.groups),
        cards=len(server.cards),
        longest=plan.cards.longest,
        memory=host_gib("server", plan.base.weights, kept_bytes),
    )


def _patches(plan: Plan) -> Iterator[str]:
    for name, card in plan.helpers.items():
        yield _MEMORY.format(name=name, memory=host_gib(name, plan.base.weights))
        if card is not None:
            yield _CARD
            yield _TAKES_TURNS if name == "selector" else ""
