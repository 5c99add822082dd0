"""How well a selector routes: accuracies, confusion, rejections and calibration."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.contracts.intervals import share_interval
from shared.contracts.labels import BACKGROUND, parse_label

BINS = 15


class Routed(NamedTuple):
    """One judged row: its gold label, the label it was routed to (`BACKGROUND` if rejected), and the probability."""

    gold: str
    predicted: str
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the row was routed to its gold label; for background, whether it was rejected."""
        return self.gold == self.predicted

    @property
    def is_domain_right(self) -> bool:
        """Whether the domain of the label is right."""
        return parse_label(self.gold).domain == parse_label(self.predicted).domain

    @property
    def is_task_right(self) -> bool:
        """Whether the task of the label is right."""
        return parse_label(self.gold).task == parse_label(self.predicted).task


class Metrics(NamedTuple):
    """Metrics that `signalbox evaluate selector --json` prints; `accuracy` is that of domain and task together."""

    accuracy: float
    domain_accuracy: float
    task_accuracy: float
    n: int
    per_label: dict[str, float]
    confusion: dict[str, dict[str, int]]
    rejected: int
    ece: float


def measure(rows: Sequence[Routed]) -> Metrics:
    """Sum up judged rows; no rows give zeros. `confusion` is keyed by gold, then by prediction."""
    counts = Counter((row.gold, row.predicted) for row in rows)
    golds = sorted({row.gold for row in rows})
    confusion = {gold: {pred: n for (g, pred), n in sorted(counts.items()) if g == gold} for gold in golds}
    per_label = {gold: confusion[gold].get(gold, 0) / sum(confusion[gold].values()) for gold in golds}
    return Metrics(
        accuracy=_share([row.is_right for row in rows]),
        domain_accuracy=_share([row.is_domain_right for row in rows]),
        task_accuracy=_share([row.is_task_right for row in rows]),
        n=len(rows),
        per_label=per_label,
        confusion=confusion,
        rejected=sum(row.predicted == BACKGROUND for row in rows),
        ece=calibration_error(rows),
    )


def intervals(rows: Sequence[Routed]) -> dict[str, Any]:
    """95 % binomial intervals of the accuracies as [low, high], over all rows and for each label."""
    labels = sorted({row.gold for row in rows})
    return {
        "accuracy": share_interval([row.is_right for row in rows]),
        "domain_accuracy": share_interval([row.is_domain_right for row in rows]),
        "task_accuracy": share_interval([row.is_task_right for row in rows]),
        "per_label": {label: share_interval([row.is_right for row in rows if row.gold == label]) for label in labels},
    }


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / max(len(answers), 1)


class Fate(NamedTuple):
    """The labels that the texts of a deleted label are routed to."""

    n: int
    rejected: float  # share of the texts
    taken: dict[str, float]  # share of the texts by label that they go to, largest first


def fates(rows: Sequence[Routed]) -> dict[str, Fate]:
    """Sum up rows of deleted labels, by their label."""
    return {gold: _fate([row.predicted for row in rows if row.gold == gold]) for gold in sorted({r.gold for r in rows})}


def _fate(predicted: Sequence[str]) -> Fate:
    shares = {label: count / len(predicted) for label, count in Counter(predicted).most_common()}
    return Fate(len(predicted), shares.pop(BACKGROUND, 0.0), shares)


class Bin(NamedTuple):
    """The rows whose probability lies in one part of equal width: how many, their mean probability, the share right."""

    n: int
    probability: float
    accuracy: float


def calibration(rows: Sequence[Routed], bins: int = BINS) -> list[Bin]:
    """Return the rows by bins of probability, from 0 to 1: the reliability diagram (Guo et al. 2017, figure 1)."""
    cells: list[list[Routed]] = [[] for _ in range(bins)]
    for row in rows:
        cells[min(int(row.probability * bins), bins - 1)].append(row)
    return [
        Bin(len(cell), sum(r.probability for r in cell) / max(len(cell), 1), _share([r.is_right for r in cell]))
        for cell in cells
    ]


def calibration_error(rows: Sequence[Routed], bins: int = BINS) -> float:
    """Return the expected calibration error over equal-width bins of probability (Guo et al. 2017, equation 3)."""
    off = sum(cell.n * abs(cell.probability - cell.accuracy) for cell in calibration(rows, bins))
    return off / max(len(rows), 1)
