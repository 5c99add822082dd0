"""Confidence intervals of means, by the percentile bootstrap over rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
_SIDES = (0.025, 0.975)


class Estimate(NamedTuple):
    """A mean, and the interval that holds 95 % of its resampled means."""

    value: float
    low: float
    high: float


def estimate(groups: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Return the mean of the groups' means with its interval; rows are resampled within each group, no rows give zeros.

    The same values and seed give the same interval.
    """
    rng = np.random.default_rng(seed)
    kept = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not kept:
        return Estimate(0.0, 0.0, 0.0)
    means = np.mean([_resampled_means(group, rng) for group in kept], axis=0)
    low, high = np.quantile(means, _SIDES)
    return Estimate(float(np.mean([group.mean() for group in kept])), float(low), float(high))


def _resampled_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means `[resamples]`; one resample at a time, because all at once would need rows times resamples of memory."""
    count = len(values)
    return np.array([values[rng.integers(count, size=count)].mean() for _ in range(RESAMPLES)])
