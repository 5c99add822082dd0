"""Releases whose adapters say nothing, for the echo engine, which reads none; and a system that serves one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from signalbox import Signalbox

from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from services.trainer.evaluation.judged import judged_rows
from services.trainer.evaluation.selector import SelectorScores
from services.trainer.training.light import fit_light
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.judged import report_at
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rows import Row
from shared.model.light import LightSelector
from shared.names import DEFAULT_TENANT
from shared.prompts.bound import BoundTemplate, without_vocabulary
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings

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
        report=report_of(registry, tenant_id, selector, data),
        representation=rows,
        verdict=verdict,
    )
    registry.releases.promote(tenant_id, registry.releases.add(release))


def report_of(registry: Registry, tenant_id: str, selector: ReleaseSelector, data: DemoData) -> dict[str, Any]:
    """What a training would report of a light selector, judged on the demo's test rows."""
    light = LightSelector.load(registry.weights.fetch_light(selector.light)).in_order(selector.labels)
    rows = {label: [Row(input=text, label=label) for text in data.texts(label, "test")] for label in selector.labels}
    scores = SelectorScores(light.score([row.input for own in rows.values() for row in own]), None)
    judged = judged_rows(selector, scores, rows)
    return report_at(judged, selector.threshold) | {"judged": registry.datasets.put_judged(tenant_id, judged)}


def stored_label(registry: Registry, folder: Path, label: str) -> ReleaseLabel:
    """A label with an adapter of its own."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"label": label}))
    (folder / "adapter_model.safetensors").write_bytes(label.encode())
    digest, group = registry.weights.put(folder), parse_label(label).domain
    return ReleaseLabel(adapter=digest, ref=f"{label}@1", group=group, template="chatml", instruction="")


@contextmanager
def echo_system(folder: Path, data: DemoData, **more: Any) -> Iterator[tuple[Supervisor, Signalbox]]:
    """API, selector, one worker and the servers; a release whose light selector is fitted on the demo's rows."""
    settings = Settings(data_dir=folder, engine="echo", groups="base", **more)
    supervisor = Supervisor(settings, ["bank,travel,base"], trainers=0)
    try:
        supervisor.start()
        client = Signalbox(supervisor.api_url, announce(supervisor))
        supervisor.wait_ready()
        publish(supervisor, folder, data)
        yield supervisor, client
    finally:
        supervisor.stop()
