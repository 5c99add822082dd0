"""What other thresholds would do: to the last day's jobs, and to the rows that a release was judged on."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.api.infra.clients import Clients
from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseSelector
from shared.ledger import calls

DAY_MS = 24 * 3600 * 1000
# A selector that is nearly always sure has its threshold close to 1.
_EDGES = (*(n / 100 for n in range(100)), 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0)


@dataclass(frozen=True)
class Traffic:
    """How sure the release's selector was of the last day's jobs, or of a part of them."""

    jobs: int
    """All jobs of the day."""
    sure: list[float]
    """The confidences of those that a threshold decides, ascending."""
    ambiguous: int
    """Jobs that are rejected at every threshold, since the release rejects texts between two labels."""
    of_others: int
    """Jobs that another selector selected, which say nothing of this one."""

    @property
    def looked_at(self) -> int:
        """The jobs that count here."""
        return len(self.sure) + self.ambiguous

    def rejected(self, threshold: float) -> float | None:
        """The share that a threshold rejects; None without jobs."""
        if not self.looked_at:
            return None
        return (bisect_left(self.sure, threshold) + self.ambiguous) / self.looked_at


class Step(NamedTuple):
    """One threshold: the share of the traffic that it rejects, and what it does to validation rows."""

    threshold: float
    rejected: float | None
    accuracy: float | None
    false_reject: float | None
    """Share of the rows with a label that it rejects."""
    background_reject: float | None
    """Share of the rows without a label that it rejects."""


class Judged:
    """The rows that a release was judged on, sorted so that a threshold is looked up."""

    def __init__(self, rows: Sequence[JudgedRow]) -> None:
        self._count = len(rows)
        self._right = sorted(row.confidence for row in rows if row.best_label == row.label)
        self._with_label = sorted(row.confidence for row in rows if row.label != BACKGROUND)
        self._without = sorted(row.confidence for row in rows if row.label == BACKGROUND)

    def accuracy(self, threshold: float) -> float | None:
        """The share of rows that go where they belong."""
        right = len(self._right) - bisect_left(self._right, threshold) + bisect_left(self._without, threshold)
        return right / self._count if self._count else None

    def false_reject(self, threshold: float) -> float | None:
        """The share of the rows with a label that are rejected."""
        return _below(self._with_label, threshold)

    def background_reject(self, threshold: float) -> float | None:
        """The share of the rows without a label that are rejected."""
        return _below(self._without, threshold)


async def traffic(clients: Clients, release: Release, selector: ReleaseSelector) -> Traffic:
    """Look at every n-th of the tenant's jobs of the last day that this selector selected."""
    since = time.time() * 1000 - DAY_MS
    sure: list[float] = []
    ambiguous: list[float] = []
    jobs = of_others = start = 0
    while start >= 0:
        part = await clients.ledger.do(calls.confidences(release.tenant_id, selector.digest, since, start))
        sure += part.confidences
        ambiguous += part.ambiguous
        jobs, of_others, start = max(jobs, part.jobs), of_others + part.of_others, part.next
    if not release.ambiguous:
        sure, ambiguous = sure + ambiguous, []
    return Traffic(jobs, sorted(sure), len(ambiguous), of_others)


def steps(selector: ReleaseSelector, found: Traffic | None, rows: Sequence[JudgedRow]) -> list[Step]:
    """Return what each threshold would do, the selector's own among them, ascending; None is what is not known."""
    judged = Judged(rows)
    return [
        Step(
            threshold,
            found.rejected(threshold) if found else None,
            judged.accuracy(threshold),
            judged.false_reject(threshold),
            judged.background_reject(threshold),
        )
        for threshold in sorted({*_EDGES, selector.threshold})
    ]


def _below(ascending: Sequence[float], threshold: float) -> float | None:
    return bisect_left(ascending, threshold) / len(ascending) if ascending else None
