"""The overlays as kubectl renders them; no cluster needed."""

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCALED = ("hpa", "keda", "local", "gpu")
OVERLAYS = (*SCALED, "vllm")
WITH_KEDA = ("keda", "gpu")


@functools.cache
def render(overlay, k8s=ROOT / "k8s"):
    if shutil.which("kubectl") is None:
        pytest.skip("the program kubectl is missing: it renders the overlays")
    done = subprocess.run(
        ["kubectl", "kustomize", str(k8s / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Objects(yaml.safe_load_all(done.stdout))


class Objects(list):
    """Rendered objects."""

    def of(self, *kinds):
        return [one for one in self if one["kind"] in kinds]

    def pods(self):
        """(kind, name, pod template) of everything that makes pods."""
        for one in self.of("Deployment", "StatefulSet", "Job", "ScaledJob"):
            spec = one["spec"]
            template = spec["jobTargetRef"]["template"] if one["kind"] == "ScaledJob" else spec["template"]
            yield one["kind"], one["metadata"]["name"], template

    def containers(self):
        for _, name, template in self.pods():
            for container in (*template["spec"].get("initContainers", []), *template["spec"]["containers"]):
                yield f"{name}/{container['name']}", container

    def settings(self):
        """What the ConfigMap holds."""
        (found,) = [one for one in self.of("ConfigMap") if one["metadata"]["name"].startswith("settings-")]
        return found["data"]
