"""How far a mean could be off: the percentile bootstrap over rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
_SIDES = (0.025, 0.975)


class Estimate(NamedTuple):
    """A mean, and the interval that 95 % of its resampled means lie in."""

    value: float
    low: float
    high: float


def estimate(groups: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Return the mean of the groups' means with its interval, rows resampled within each group; no rows give zeros.

    A single group gives the mean of its rows. The same values and seed give the same interval.
    """
    chance = np.random.default_rng(seed)
    kept = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not kept:
        return Estimate(0.0, 0.0, 0.0)
    means = np.mean([_resampled_means(group, chance) for group in kept], axis=0)
    low, high = np.quantile(means, _SIDES)
    return Estimate(float(np.mean([group.mean() for group in kept])), float(low), float(high))


def _resampled_means(values: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """`[resamples]` means; one resample at a time, because all at once would be rows times resamples in memory."""
    count = len(values)
    return np.array([values[chance.integers(count, size=count)].mean() for _ in range(RESAMPLES)])
