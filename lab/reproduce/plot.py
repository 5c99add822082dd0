"""Plots a table as bars: the paper's accuracy and that of each part of our selectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.reproduce.grid import Grid
from lab.reproduce.table_rows import ACCURACY, PARTS, Line

_COLOURS = {
    "paper": "#9e9e9e", "llm": "#1f77b4", "light": "#ff7f0e", "cascade": "#2ca02c", "served": "#98df8a",
    "prototypes": "#bcbd22", "answers": "#9467bd", "oracle": "#8c564b", "routed": "#17becf",
}  # fmt: skip
_INCHES_A_CONDITION = 0.8


def draw(file: Path, grid: Grid, lines: Mapping[str, Sequence[Line]]) -> None:
    """Draw one subplot for each selector text, below each other."""
    figure_of(grid, lines).savefig(file, dpi=120)


def figure_of(grid: Grid, lines: Mapping[str, Sequence[Line]]) -> Any:
    """The plot as a matplotlib figure."""
    from matplotlib.figure import Figure

    widest = max((len(_names(own)) for own in lines.values()), default=1)
    size = (max(6.0, 2 + _INCHES_A_CONDITION * widest), 3.2 * max(len(lines), 1))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(grid.title)
    for place, (text, own) in enumerate(lines.items(), 1):
        axes = figure.add_subplot(len(lines), 1, place, title=text)
        _rows_chosen(axes, grid, own) if grid.value == "rows" else _accuracies(axes, own)
        axes.grid(axis="y", alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return figure


def _accuracies(axes: Any, lines: Sequence[Line]) -> None:
    paper = {line.name: line.paper[ACCURACY] for line in lines}
    series = {"paper": paper} | {
        part: {line.name: line.ours(ACCURACY) for line in lines if line.part == part} for part in PARTS if part
    }
    _bars(axes, _names(lines), {name: own for name, own in series.items() if any(own.values())})
    axes.set(ylim=(0, 1.02), ylabel=ACCURACY)


def _rows_chosen(axes: Any, grid: Grid, lines: Sequence[Line]) -> None:
    """A dot for each label, and a bar for their mean."""
    measured = {line.name: line.outcome.chosen for line in lines if line.outcome}
    means = {name: sum(own.values()) / max(len(own), 1) for name, own in measured.items()}
    _bars(axes, _names(lines), {"mean of the tasks": means} if means else {})
    dots = [(place, own[label]) for place, own in enumerate(measured.values()) for label in grid.labels if label in own]
    axes.scatter([place for place, _ in dots], [rows for _, rows in dots], s=9, color="black", label="a task", zorder=3)
    axes.set(ylabel="different rows chosen")


def _bars(axes: Any, names: Sequence[str], series: Mapping[str, Mapping[str, float | None]]) -> None:
    width = 0.8 / max(len(series), 1)
    for at, (part, own) in enumerate(series.items()):
        places = [place + at * width for place, name in enumerate(names) if own.get(name) is not None]
        heights = [own[name] for name in names if own.get(name) is not None]
        axes.bar(places, heights, width, label=PARTS.get(part, part), color=_COLOURS.get(part))
    middle = (len(series) - 1) * width / 2
    axes.set_xticks([place + middle for place in range(len(names))], names, rotation=30, ha="right")


def _names(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.name for line in lines))
