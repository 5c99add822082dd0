"""Releases whose adapters say nothing, for the echo engine, which reads none."""

import json
from pathlib import Path

from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from services.trainer.training.light import fit_light
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rows import Row
from shared.names import DEFAULT_TENANT
from shared.prompts.bound import BoundTemplate, without_vocabulary
from shared.registry import Registry
from shared.registry.store import S3Store

DIGEST = "a" * 64
ENTRY = ReleaseLabel(adapter=DIGEST, ref="bank.cards@1", group="bank", template="chatml", instruction="Answer.")
RELEASE = Release(
    tenant_id="t", base_model="tiny", labels={"bank.cards": ENTRY}, verdict=Verdict(passed=True, reasons=())
)


def prompts(_tenant_id: str, name: str) -> BoundTemplate:
    """A built-in template by its name: the echo engine has no vocabulary."""
    return without_vocabulary(BUILT_IN[name])


def publish(supervisor: Supervisor, folder: Path, data: DemoData, tenant_id: str = DEFAULT_TENANT) -> None:
    """Store adapters that say nothing (the echo engine reads none) and a light selector, and promote them."""
    registry = Registry(supervisor.ledger, S3Store(supervisor.settings), supervisor.settings.cache_dir)
    light = fit_light({label: data.texts(label, "train") for label in [*data.labels, BACKGROUND]})
    labels = {label: stored_label(registry, folder / label, label) for label in data.labels}
    selector = ReleaseSelector(
        light=registry.weights.put_light(light.save(folder / "light.safetensors")),
        labels=tuple(light.labels),
        threshold=0.2,
    )
    verdict = Verdict(passed=True, reasons=())
    rows = {
        label: registry.datasets.put_rows(tenant_id, [Row(input=text) for text in data.texts(label, "train")])
        for label in [*data.labels, BACKGROUND]
    }
    release = Release(
        tenant_id=tenant_id,
        base_model="echo",
        labels=labels,
        selector=selector,
        representation=rows,
        verdict=verdict,
    )
    registry.releases.promote(tenant_id, registry.releases.add(release))


def stored_label(registry: Registry, folder: Path, label: str) -> ReleaseLabel:
    """A label with an adapter of its own."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"label": label}))
    (folder / "adapter_model.safetensors").write_bytes(label.encode())
    digest, group = registry.weights.put(folder), parse_label(label).domain
    return ReleaseLabel(adapter=digest, ref=f"{label}@1", group=group, template="chatml", instruction="")
