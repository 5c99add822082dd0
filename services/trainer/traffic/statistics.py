"""Tests of whether two samples differ, and what several of them say together.

Each returns a statistic and a p-value: the probability of a statistic as large where nothing differs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

from shared.model.features import Floats

LEAST_EXPECTED = 5.0
"""Requests of a cell that the smaller sample is to expect (Cochran 1954)."""
FOLDS = 5
RIDGE = 0.1
"""Against the mean variance of a component."""
_ENOUGH_ABOVE = 10
_ROUNDS = (99, 400, 1500)
"""Permutations drawn at a time; 1,999 give a p-value of 0.0005 at least."""
_ROUNDING = 1e-7
"""Of a statistic, by which equal ones may differ."""
_REST = "*"
_Name = TypeVar("_Name", bound=str)

Counts = dict[str, tuple[int, int]]
"""Requests of a label before and after."""
Members = NDArray[np.float32]
"""`[rows, permutations]`: 1 where a row counts as one of the second sample, else 0."""


class Tested(NamedTuple):
    """A statistic and its p-value."""

    statistic: float
    p_value: float


NOTHING = Tested(0.0, 1.0)
"""Of samples that cannot be told apart, because one is empty or all rows are alike."""


def label_mix(before: Iterable[str], after: Iterable[str]) -> Tested:
    """Compare two mixes of labels by Pearson's chi-squared test, with rare labels pooled."""
    cells = np.array(list(pooled(label_counts(before, after)).values())).reshape(-1, 2)
    if len(cells) < 2 or not cells.sum(axis=0).all():
        return NOTHING
    found = chi2_contingency(cells, correction=False)
    return Tested(float(found.statistic), float(found.pvalue))


def label_counts(before: Iterable[str], after: Iterable[str]) -> Counts:
    """Return how often each label occurs in both."""
    one, other = Counter(map(str, before)), Counter(map(str, after))
    return {label: (one[label], other[label]) for label in sorted({*one, *other})}


def pooled(counts: Counts) -> Counts:
    """Pool labels of which the smaller sample expects less than `LEAST_EXPECTED`: with their domain, then one another.

    The samples together say which are pooled, so that it favours neither.
    """
    sizes = [sum(column) for column in zip(*counts.values(), strict=True)] or [0, 0]
    rare = LEAST_EXPECTED * sum(sizes) / max(min(sizes), 1)
    counts = _renamed(counts, rare, lambda label: f"{label.rpartition('.')[0]}.{_REST}")
    counts = _renamed(counts, rare, lambda _: _REST)
    if sum(counts.get(_REST, (rare, 0))) >= rare:
        return counts
    least = min(counts, key=lambda label: (label == _REST, sum(counts[label])))
    return _renamed(counts, rare, lambda _: least)


def _renamed(counts: Counts, rare: float, broader: Callable[[str], str]) -> Counts:
    cells: Counts = {}
    for label, pair in counts.items():
        name = label if sum(pair) >= rare else broader(label)
        before, after = cells.get(name, (0, 0))
        cells[name] = before + pair[0], after + pair[1]
    return cells


def proportions(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Tested:
    """Compare two shares by Fisher's exact test; the statistic is the second share minus the first."""
    if not (len(before) and len(after)):
        return NOTHING
    table = [[int(part.sum()), int((~part).sum())] for part in (before, after)]
    return Tested(float(after.mean() - before.mean()), float(fisher_exact(table).pvalue))


def distributions(before: NDArray[np.float64], after: NDArray[np.float64]) -> Tested:
    """Compare two distributions of numbers by Kolmogorov and Smirnov's test, which holds back where numbers repeat."""
    if not (len(before) and len(after)):
        return NOTHING
    found = ks_2samp(before, after, method="asymp")
    return Tested(float(found.statistic), float(found.pvalue))


def classified(before: Floats, after: Floats, rng: np.random.Generator) -> tuple[Tested, NDArray[np.float64]]:
    """Compare two samples of points by a classifier's area under the ROC curve on held-out folds.

    A classifier two-sample test (Lopez-Paz and Oquab 2017). The classifier is a ridge regression of the membership, so
    that every permutation is fitted again by one matrix product, and the folds do not depend on the membership: the
    p-value is exact. Returns also each row's held-out score: the larger, the more it is like `after`.
    """
    points, members = np.concatenate([before, after]), _members(before, after)
    if not (len(before) and len(after) and points.shape[1] and points.std() > 0):
        return NOTHING, np.zeros(len(points))
    held_out = _Ridge(points, rng.permutation(np.arange(len(points)) % FOLDS))
    scores = held_out.scores(members)
    area = _areas(scores, members)[0]
    p_value = permuted(float(area), lambda drawn: _areas(held_out.scores(drawn), drawn), members, rng)
    return Tested(float(area), p_value), scores[:, 0].astype(np.float64)


class _Ridge:
    """Out-of-fold predictions of a ridge regression without intercept on centred points, for many targets at once."""

    def __init__(self, points: Floats, folds: NDArray[np.int64]) -> None:
        self._points = points - points.mean(axis=0)
        self._folds = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
        gram = self._points.T @ self._points
        ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
        parts = (self._points[rows] for rows in self._folds)
        self._inverses = [np.linalg.inv(gram - part.T @ part + ridge) for part in parts]

    def scores(self, members: Members) -> Members:
        """Return `[rows, permutations]` scores of rows by a fit without their fold."""
        targets = members - members.mean(axis=0)
        whole = self._points.T @ targets
        scores = np.empty_like(targets)
        for rows, inverse in zip(self._folds, self._inverses, strict=True):
            part = self._points[rows]
            scores[rows] = part @ (inverse @ (whole - part.T @ targets[rows]))
        return scores


def _areas(scores: Members, members: Members) -> NDArray[np.float64]:
    """The area under the ROC curve of each column, from the sum of ranks (Mann and Whitney)."""
    inside = members.sum(axis=0)
    ranked = np.take_along_axis(members, np.argsort(scores, axis=0, kind="stable"), axis=0)
    ranks = np.arange(1, len(scores) + 1, dtype=np.float64) @ ranked
    return (ranks - inside * (inside + 1) / 2) / (inside * (len(scores) - inside))


def mean_discrepancy(before: Floats, after: Floats, width: float, rng: np.random.Generator) -> Tested:
    """Compare two samples of points by the maximum mean discrepancy (Gretton et al. 2012, equation 5), squared.

    The kernel is Gaussian with bandwidth `width`; the p-value comes from permutations.
    """
    points, members = np.concatenate([before, after]), _members(before, after)
    if not (len(before) and len(after) and points.shape[1]):
        return NOTHING
    kernel = _gaussian(points, width)

    def discrepancies(members: Members) -> NDArray[np.float64]:
        inside = members.sum(axis=0)
        weights = members / inside - (1 - members) / (len(members) - inside)
        return np.einsum("np,np->p", weights, kernel @ weights).astype(np.float64)

    observed = float(discrepancies(members)[0])
    return Tested(observed, permuted(observed, discrepancies, members, rng))


def _gaussian(points: Floats, width: float) -> Floats:
    squares = np.einsum("nc,nc->n", points, points)
    distances = squares[:, None] + squares - 2 * points @ points.T
    kernel: Floats = np.exp(-np.maximum(distances, 0) / np.float32(2 * width * width))
    return kernel


def _members(before: Floats, after: Floats) -> Members:
    return np.repeat(np.array([0, 1], dtype=np.float32), [len(before), len(after)])[:, None]


def permuted(
    observed: float,
    statistics: Callable[[Members], NDArray[np.float64]],
    members: Members,
    rng: np.random.Generator,
) -> float:
    """Return the p-value of a statistic under permutations of the membership `[rows, 1]`.

    No more permutations are drawn once ten of them reach the statistic: p-values that matter are small, and the p-value
    stays valid (Besag and Clifford 1991).
    """
    drawn, above, line = 0, 0, observed - _ROUNDING * (1 + abs(observed))
    for count in _ROUNDS:
        columns = rng.permuted(np.repeat(members, count, axis=1), axis=0)
        reached = above + np.cumsum(statistics(columns) >= line)
        if reached[-1] >= _ENOUGH_ABOVE:
            return float(_ENOUGH_ABOVE / (drawn + 1 + int(np.argmax(reached >= _ENOUGH_ABOVE))))
        drawn, above = drawn + count, int(reached[-1])
    return (above + 1) / (drawn + 1)


def holm(p_values: Mapping[_Name, float]) -> dict[_Name, float]:
    """Return p-values adjusted for being several (Holm 1979), the smallest first.

    Where nothing differs, one of them is below a level with that level's probability at most.
    """
    adjusted: dict[_Name, float] = {}
    largest = 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_value))
        adjusted[name] = largest
    return adjusted
