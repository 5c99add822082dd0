"""Prints evaluations as tables or JSON: a selector's metrics, a system's three lines."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from services.cli import output


def show_selector(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a selector's metrics, with a cascade's curve as a separate table."""
    if as_json:
        output.json_line(found)
        return
    tables = {"per_label", "confusion", "intervals", "curve"}
    if not found.get("unknown_labels"):
        tables.add("unknown_labels")
    output.record({name: value for name, value in found.items() if name not in tables}, as_json=False)
    if "confusion" in found:
        _label_table(found)
    if "curve" in found:
        _curve_table(found["curve"])


def _label_table(found: Mapping[str, Any]) -> None:
    """Print each label's accuracy, and the labels that its rows were mistaken for, most frequent first."""
    view = Table(_whole("label"), "rows", "accuracy", "95 %", _whole("taken for"), box=SIMPLE_HEAD)
    for label, taken in found["confusion"].items():
        low, high = found["intervals"]["per_label"][label]
        wrong = sorted(((n, other) for other, n in taken.items() if other != label), reverse=True)
        view.add_row(
            label,
            str(sum(taken.values())),
            f"{found['per_label'][label]:.3f}",
            f"{low:.3f} to {high:.3f}",
            ", ".join(f"{other} {n}" for n, other in wrong),
        )
    output.out.print(view)


def _curve_table(points: Iterable[Mapping[str, Any]]) -> None:
    view = Table("asks the language model", "light one is sure from", "accuracy", "CPU ms a request", box=SIMPLE_HEAD)
    for point in points:
        view.add_row(
            f"{point['llm_share']:.0%}",
            f"{point['sure']:.3f}" if point["sure"] <= 1 else "never",
            f"{point['accuracy']:.4f}",
            f"{point['ms']:.1f}",
        )
    output.out.print(view)


def show_system(found: dict[str, Any], *, as_json: bool) -> None:
    """Print the three lines of a system's evaluation side by side, one row per task."""
    if as_json:
        output.json_line(found)
        return
    short = [Column(name, no_wrap=True) for name in ("rows", "by", "trained")]
    measured = ("selector alone", "oracle routing", "routed")
    view = Table(_whole("task"), *short[:2], *measured, short[2], box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    found_lines, adapters = found["lines"], found["parameters"]["adapters"]
    for label, task in found["tasks"].items():
        values = [_interval(line["tasks"][label]) for line in found_lines.values()]
        view.add_row(label, str(task["n"]), task["measure"], *values, f"{adapters[label]['share']:.2%}")
    view.add_section()
    view.add_row("mean of tasks", "", "", *(_interval(line["mean"]) for line in found_lines.values()), "")
    output.out.print(view)
    output.record({name: found[name] for name in ("release", "background")}, as_json=False)
    for part, trained in found["parameters"]["selector"].items():
        output.out.print(f"selector ({part}): {trained['trainable']:,} weights trained, {trained['share']:.2%}")


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _whole(name: str) -> Column:
    """A column of labels, which are broken where there is no room, and never cut."""
    return Column(name, overflow="fold")
