"""The demo's summary, and the promises that it checks."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from signalbox import Signalbox

from services.cli.demo.data import DemoData
from services.cli.demo.stream import Selected, Sent, Stream
from services.cli.local.supervisor import Supervisor
from shared.contracts.labels import BACKGROUND

MIN_ACCURACY = 0.95
MIN_REJECTED = 0.5


class Verdict(NamedTuple):
    """The tables, and whether each promise holds."""

    table: Group
    promises: dict[str, bool]


def summary(
    system: Supervisor, client: Signalbox, stream: Stream, held_out: Sequence[Selected], data: DemoData
) -> Verdict:
    """Measure everything that the demo promises."""
    routed = {label: _share(held_out, label) for label in data.labels}
    own = [s for s in held_out if s.row.label != BACKGROUND]
    accuracy = sum(s.label == s.row.label for s in own) / len(own)
    rejected = _share(held_out, BACKGROUND)
    adapters = {adapter.label: adapter.raw["report"] for adapter in client.adapters()}
    adapted = {label: adapters[label].get("adapter_exact_match", 0) for label in data.labels}
    base = {label: adapters[label].get("base_exact_match", 1) for label in data.labels}
    after = [s for s in stream.after_promotion() if s.row.label == data.added_label]
    promises = {
        f"routing on held-out rows is {accuracy:.3f}, at least {MIN_ACCURACY} was promised": accuracy >= MIN_ACCURACY,
        f"{rejected:.2f} of the rows outside every domain are rejected": rejected >= MIN_REJECTED,
        "every adapter beats the base model on its own task": all(adapted[x] > base[x] for x in data.labels),
        "no request failed": all(s.job["state"] == "succeeded" for s in stream.sent),
        "every answer is of the release its request was accepted under": all(map(_kept_release, stream.sent)),
        f"requests for {data.added_label} find it after the promotion": _mostly(after, data.added_label),
    }
    tables = Group(
        _labels_table(data, routed, adapted, base, rejected),
        _stages_table(stream.sent),
        _memory_table(system),
        _promises_table(promises),
    )
    return Verdict(tables, promises)


def _share(held_out: Sequence[Selected], label: str) -> float:
    own = [s for s in held_out if s.row.label == label]
    return sum(s.label == label for s in own) / max(len(own), 1)


def _kept_release(sent: Sent) -> bool:
    result = sent.job.get("result") or {}
    return bool(result) and result["release"] == sent.job["release"]


def _mostly(sent: Sequence[Sent], label: str) -> bool:
    return sum(s.label == label for s in sent) > len(sent) / 2


def _labels_table(
    data: DemoData,
    routed: dict[str, float],
    adapted: dict[str, float],
    base: dict[str, float],
    rejected: float,
) -> Table:
    table = _table("held-out rows", "label", "routed right", "right answers", "without adapter")
    for label in data.labels:
        table.add_row(label, f"{routed[label]:.3f}", f"{adapted[label]:.2f}", f"{base[label]:.2f}")
    table.add_row("outside every domain", f"{rejected:.3f} rejected", "", "")
    return table


def _stages_table(sent: Sequence[Sent]) -> Table:
    table = _table(f"{len(sent)} requests, beside a training", "stage", "p50 ms", "p95 ms")
    stages: dict[str, list[float]] = {}
    for one in sent:
        for stage, ms in one.job["stage_ms"].items():
            stages.setdefault(stage, []).append(ms)
        stages.setdefault("whole", []).append(sum(one.job["stage_ms"].values()))
    names = {"queued": "wait for selector", "selecting": "select", "routed": "wait for worker", "running": "generate"}
    for stage, values in stages.items():
        p50, p95 = statistics.median(values), sorted(values)[int(0.95 * (len(values) - 1))]
        table.add_row(names.get(stage, stage), f"{p50:.0f}", f"{p95:.0f}")
    return table


def _memory_table(system: Supervisor) -> Table:
    table = _table("memory", "process", "peak MiB")
    for name, peak in system.peak_mib().items():
        table.add_row(name, f"{peak:.0f}")
    return table


def _promises_table(promises: dict[str, bool]) -> Table:
    table = _table("what was promised", "kept", "promise")
    for line, holds in promises.items():
        table.add_row("[green]yes[/green]" if holds else "[red]NO[/red]", line)
    return table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
