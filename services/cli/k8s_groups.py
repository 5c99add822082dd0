"""`signalbox k8s group add`: writes the files of a new group in a Kustomize overlay."""

import re
from pathlib import Path

from shared.contracts.labels import check_name
from shared.errors import Conflict, Invalid, NotFound
from shared.names import generate_queue

_COMPONENT = {"keda": "scaled-object", "hpa": "hpa"}
_LEAST_WORKERS = {"keda": 0, "hpa": 1}
KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [group.yaml]
components: [../../../../components/adapter-group, ../../../../components/{component}]
"""
"""Of a group's folder; the component says what runs beside its worker, or scales it."""
_GROUP = """\
# What the components put into their objects; it is not applied itself.
apiVersion: signalbox.dev/v1
kind: AdapterGroup
metadata:
  name: "{name}"
  annotations: {{config.kubernetes.io/local-config: "true"}}
spec: {{queue: {queue}, minWorkers: {least}, maxWorkers: {most}}}
"""


def add_group(overlay: Path, name: str, most: int) -> Path:
    """Write the group's folder and list it in the overlay, `keda` or `hpa`; returns the folder.

    Raises `Invalid` for a name that Kubernetes does not accept and for an overlay whose resources are not listed line
    by line, `NotFound` without the overlay, and `Conflict` if the group exists already.
    """
    if not re.fullmatch(r"[a-z0-9-]*[a-z0-9]", check_name(name, "group")):
        raise Invalid("group_malformed", f"{name!r} becomes part of object names: take a-z, 0-9 and -, no - at its end")
    component = _COMPONENT.get(overlay.name)
    file = overlay / "kustomization.yaml"
    if component is None or not file.is_file():
        raise NotFound("overlay_not_found", f"{overlay} is no overlay with groups: name k8s/overlays/keda or …/hpa")
    folder = overlay / "groups" / name
    if folder.exists():
        raise Conflict("group_exists", f"{folder} is there already: edit its group.yaml")
    listed = _listed(file, f"groups/{name}")
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text(KUSTOMIZATION.format(component=component))
    least = _LEAST_WORKERS[overlay.name]
    group = _GROUP.format(name=name, queue=generate_queue(name), least=least, most=most)
    (folder / "group.yaml").write_text(group)
    file.write_text(listed)
    return folder


def _listed(file: Path, entry: str) -> str:
    """The overlay's text with one more entry at the end of its resources; comments are kept."""
    text = file.read_text()
    listed = re.sub(r"(?m)^(resources:\n(?:  - .*\n)+)", rf"\g<1>  - {entry}\n", text, count=1)
    if listed == text:
        raise Invalid(
            "resources_unreadable",
            f"{file} does not list its resources as lines `  - …` below `resources:`: write them so and try again, or "
            f"copy another group's folder by hand and add `{entry}` to the list",
        )
    return listed
