"""Drift: what of a window of requests is no longer as it was at the release (Rabanser et al. 2019)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.trainer.traffic.changes import LabelShare, Seen, change_of
from services.trainer.traffic.statistics import (
    Tested,
    classified,
    distributions,
    holm,
    label_mix,
    mean_discrepancy,
    proportions,
)
from services.trainer.traffic.window import Reference, Window
from shared.contracts.reviews import ChangeKind, Remedy

ALARMS_A_MONTH = 0.5
"""Alarms that are expected of a month in which nothing changes."""
WINDOWS_A_MONTH = 60
LEAST_REQUESTS = 50
"""Of a window; fewer show no change that matters."""
SAMPLED = 1000
"""Requests of the reference, and most of a window, whose texts are compared."""


class Finding(NamedTuple):
    """A change that a window shows."""

    kind: ChangeKind
    statistic: float
    p_value: float
    """Adjusted for the other tests of the window."""
    since: str
    """The first of the windows, without a gap until now, that show it."""
    labels: tuple[LabelShare, ...]
    examples: tuple[int, ...]
    """Rows of the window that are nearest to what has changed."""
    remedy: Remedy
    """What would help."""


class Compared(NamedTuple):
    """The tests of a window, and how much each request of reference and window is like the window's."""

    tested: dict[ChangeKind, Tested]
    before: Seen
    after: Seen


def findings(
    reference: Reference,
    window: Window,
    at: str,
    before: Sequence[Finding] = (),
    *,
    windows_a_month: int = WINDOWS_A_MONTH,
    seed: int = 0,
) -> list[Finding]:
    """Return what the window named `at` shows, the surest first; `before` are the findings of the window before.

    Looking often: where nothing changes, a window has a finding with probability `ALARMS_A_MONTH / windows_a_month` at
    most. Its tests share that by Holm's rule (1979), whatever depends on what; and since expected numbers add up, a
    month has `ALARMS_A_MONTH` windows with a finding at most, in the mean over releases. A window of fewer than
    `LEAST_REQUESTS` requests shows nothing. The same arguments give the same findings.
    """
    if min(len(window), len(reference.requests)) < LEAST_REQUESTS:
        return []
    compared = compare(reference, window, seed)
    since = {one.kind: one.since for one in before}
    p_values = {kind: one.p_value for kind, one in compared.tested.items()}
    return [
        Finding(kind, compared.tested[kind].statistic, p_value, since.get(kind, at), *change_of(kind, *compared[1:]))
        for kind, p_value in holm(p_values).items()
        if p_value <= ALARMS_A_MONTH / windows_a_month
    ]


def compare(reference: Reference, window: Window, seed: int = 0) -> Compared:
    """Test a window against its reference; both have requests."""
    was, rng = reference.requests, np.random.default_rng(seed)
    rows, others = _spread(len(was)), _spread(len(window))
    project = reference.projection.of
    points, new_points = project(was.vectors[rows]), project(window.vectors[others])
    by_classifier, scores = classified(points, new_points, rng)
    tested: dict[ChangeKind, Tested] = {
        "label_mix": label_mix(was.labels[~was.is_rejected], window.labels[~window.is_rejected]),
        "probability": distributions(was.probability, window.probability),
        "confidence": distributions(was.confidence, window.confidence),
        "rejection": proportions(was.is_rejected, window.is_rejected),
        "disagreement": proportions(was.is_disputed, window.is_disputed),
        "classifier": by_classifier,
        "discrepancy": mean_discrepancy(points, new_points, reference.projection.width, rng),
    }
    old, new = np.split(scores, [len(rows)])
    return Compared(tested, Seen(was, _placed(old, rows, was)), Seen(window, _placed(new, others, window)))


def _spread(count: int) -> NDArray[np.int64]:
    """At most `SAMPLED` rows, evenly spread."""
    return np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64)


def _placed(scores: NDArray[np.float64], rows: NDArray[np.int64], window: Window) -> NDArray[np.float64]:
    """The scores at their rows; rows without one come last."""
    placed = np.full(len(window), -np.inf)
    placed[rows] = scores
    return placed
