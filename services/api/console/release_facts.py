"""What a release's report says of its selector, in the form that the page Releases shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.contracts.labels import BACKGROUND, short_form
from shared.contracts.manifests import Release
from shared.contracts.routing import Bin
from shared.ledger.calls import Gauges
from shared.names import ANY_GROUP, generate_queue, start_one

MOST_CONFUSED = 30
"""Labels of a confusion matrix."""
_SHADES = 9


class Task(NamedTuple):
    """One label of a release, and how often its validation rows go there."""

    label: str
    ref: str
    group: str
    chosen: bool
    """Whether the selector may choose it."""
    accuracy: float | None
    low: float | None
    high: float | None
    rows: int | None
    before: float | None
    """What the release before reached on the same rows."""


@dataclass(frozen=True)
class Cell:
    """How many rows of one label went to another; the shade is a tenth of the label's rows."""

    rows: int
    share: float
    shade: int
    is_right: bool


class ConfusionRow(NamedTuple):
    """Where the rows of one label went."""

    label: str
    rows: int
    cells: list[Cell]
    elsewhere: int
    """Rows that went to labels that are not shown."""


class Confusion(NamedTuple):
    """The labels that are confused most, by each other."""

    labels: list[str]
    rows: list[ConfusionRow]
    hidden: int
    """Labels that are left out."""


def tasks(release: Release) -> list[Task]:
    """Return the labels, those that were judged first, the least accurate first of these."""
    report = release.report
    reached, chosen = release.accuracy_of, release.selected_labels
    bounds = _by_label(report.get("intervals", {}).get("per_label"))
    before = _by_label(report.get("before"))
    counts = {label: sum(found.values()) for label, found in _confusion(release).items()}
    found = [
        Task(
            label,
            entry.ref if entry else "",
            entry.group if entry else "",
            label in chosen,
            reached.get(label),
            *_range(bounds.get(label)),
            counts.get(label),
            before.get(label),
        )
        for label, entry in [*release.labels.items(), *_background(release)]
    ]
    return sorted(found, key=lambda task: (task.accuracy is None, task.accuracy, task.label))


def confusion(release: Release) -> Confusion:
    """Return the confusion matrix of the validation rows, cut to the labels that are confused most."""
    counts = _confusion(release)
    wrong: Counter[str] = Counter()
    for gold, found in counts.items():
        for predicted, n in found.items():
            wrong.update({gold: n, predicted: n} if gold != predicted else {gold: 0})
    ranked = sorted(wrong, key=lambda label: (-wrong[label], label))
    labels = sorted(ranked[:MOST_CONFUSED], key=lambda label: (label == BACKGROUND, label))
    rows = [_confusion_row(label, labels, counts[label]) for label in labels if label in counts]
    return Confusion(labels, rows, len(ranked) - len(labels))


def bins(release: Release) -> list[Bin]:
    """Return the bins of the calibration diagram; none in a release from before they were kept."""
    return [Bin(cell["n"], cell["probability"], cell["accuracy"]) for cell in release.report.get("calibration", ())]


def unserved(release: Release, gauges: Gauges) -> list[str]:
    """Say for each queue of a release why no live worker would answer its jobs."""
    live = {gauge.queue for gauge in gauges.queues if gauge.consumers}
    found = []
    for queue in release.queues:
        by = queue if queue in live else generate_queue(ANY_GROUP)
        bases = gauges.bases.get(by, [])
        if by not in live:
            found.append(f"no live worker serves {queue}: {start_one(queue)}")
        elif bases and (lacking := [base for base in release.bases_of_queues[queue] if base not in bases]):
            found.append(f"the workers of {by} serve base model {', '.join(bases)}, not {', '.join(lacking)}")
    return found


def _confusion_row(label: str, labels: Sequence[str], found: Mapping[str, int]) -> ConfusionRow:
    total = sum(found.values())
    cells = [_cell(found.get(other, 0), total, is_right=other == label) for other in labels]
    return ConfusionRow(label, total, cells, total - sum(cell.rows for cell in cells))


def _cell(count: int, total: int, *, is_right: bool) -> Cell:
    share = count / max(total, 1)
    return Cell(count, share, 0 if not count else max(1, round(share * _SHADES)), is_right)


def _range(bounds: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (bounds[0], bounds[1]) if bounds else (None, None)


def _background(release: Release) -> list[tuple[str, None]]:
    return [(BACKGROUND, None)] if BACKGROUND in release.accuracy_of else []


def _confusion(release: Release) -> dict[str, dict[str, int]]:
    stored = _by_label(release.report.get("confusion"))
    return {gold: _by_label(found) for gold, found in stored.items()}


def _by_label(stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a report says by label; releases from before labels of one word have them with their domain."""
    return {short_form(label): value for label, value in (stored or {}).items()}
