"""How the overlay for a bare Kubernetes 1.20 differs from `local`: in this, and in nothing else."""

from collections import defaultdict

from tests.support.overlays import render

VOLUME = {"spec.volumeClaimTemplates", "spec.template.spec.volumes"}
CONTAINER = "spec.template.spec.containers.0"
EXPECTED = {
    "PodDisruptionBudget": {"apiVersion"},
    "HorizontalPodAutoscaler": {"apiVersion"},
    "StatefulSet ledger": VOLUME,
    "StatefulSet broker": VOLUME,
    "StatefulSet s3": VOLUME
    | {f"{CONTAINER}.{name}" for name in ("image", "command", "workingDir", "args", "env")}
    | {f"{CONTAINER}.{probe}Probe.httpGet.path" for probe in ("startup", "readiness", "liveness")},
}


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other) and path.endswith("containers"):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}.{number}")
    elif one != other:
        yield path.removeprefix(".")


def by_name(overlay):
    return {(one["kind"], one["metadata"]["name"]): one for one in render(overlay)}


def test_only_what_an_old_bare_node_lacks_is_different():
    local, here = by_name("local"), by_name("kube-here")
    assert here.keys() - local.keys() == {("PersistentVolume", "signalbox-models")}
    assert local.keys() <= here.keys()
    found = defaultdict(set)
    for (kind, name), one in local.items():
        for path in differences(one, here[kind, name]):
            found[f"{kind} {name}" if kind == "StatefulSet" else kind].add(path)
    assert dict(found) == EXPECTED
