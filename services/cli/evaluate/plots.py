"""The plots and files of `signalbox evaluate`; matplotlib is imported where it is used."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import Conflict

CELLS_WITH_NUMBERS = 25
"""Up to this many labels, cells show their counts."""


def plot_curve(found: dict[str, Any], file: Path) -> None:
    """Plot a cascade's accuracy against its cost; raises `Conflict` if the selector is not a cascade."""
    if "curve" not in found:
        raise Conflict(
            "no_curve", "only a cascade has a curve, and this release's selector is of one kind: leave the plot out"
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="milliseconds of CPU a request",
        ylabel="accuracy",
        title=f"cascade on {found['n']} rows; at the points: share that asks the language model",
    )
    axes.plot([p["ms"] for p in found["curve"]], [p["accuracy"] for p in found["curve"]], marker="o")
    for point in found["curve"][::5]:
        place = (point["ms"], point["accuracy"])
        axes.annotate(f"{point['llm_share']:.0%}", place, xytext=(0, 8), textcoords="offset points", ha="center")
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


class Confusion(NamedTuple):
    """Counts of rows, `[gold, predicted]`."""

    gold: list[str]
    predicted: list[str]
    counts: list[list[int]]


def confusion_matrix(confusion: Mapping[str, Mapping[str, int]]) -> Confusion:
    """The confusion matrix of counts keyed by gold, then by prediction; every gold label is also a column."""
    gold = sorted(confusion)
    predicted = sorted({*gold, *(label for row in confusion.values() for label in row)})
    return Confusion(gold, predicted, [[confusion[own].get(label, 0) for label in predicted] for own in gold])


def write_confusion(found: Mapping[str, Any], file: Path) -> None:
    """Draw the confusion matrix into a PNG, and write JSON and a Markdown table next to it."""
    matrix = confusion_matrix(found["confusion"])
    file.parent.mkdir(parents=True, exist_ok=True)
    _draw(matrix, file)
    file.with_suffix(".json").write_text(json.dumps(matrix._asdict()) + "\n")
    file.with_suffix(".md").write_text(markdown(matrix))


def markdown(matrix: Confusion) -> str:
    """The matrix as a table; rows are gold labels, and zeros stay empty."""
    lines = [["gold / predicted", *matrix.predicted, "right"], ["---", *["---:"] * (len(matrix.predicted) + 1)]]
    for gold, row in zip(matrix.gold, matrix.counts, strict=True):
        right = row[matrix.predicted.index(gold)] / max(sum(row), 1)
        lines.append([gold, *(str(count or "") for count in row), f"{right:.3f}"])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _draw(matrix: Confusion, file: Path) -> None:
    from matplotlib.figure import Figure

    shares = [[count / max(sum(row), 1) for count in row] for row in matrix.counts]
    size = 3 + 0.45 * max(len(matrix.gold), len(matrix.predicted))  # inches
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="gold", title=f"{sum(map(sum, matrix.counts))} rows")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(matrix.predicted)), matrix.predicted, rotation=90)
    axes.set_yticks(range(len(matrix.gold)), matrix.gold)
    figure.colorbar(image, label="share of the gold label's rows")
    if len(matrix.predicted) <= CELLS_WITH_NUMBERS:
        _number(axes, matrix.counts, shares)
    figure.savefig(file, dpi=150)


def _number(axes: Any, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]) -> None:
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if count:
                colour = "white" if shares[row][column] > 0.5 else "black"  # readable on its cell
                axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
