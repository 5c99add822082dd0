"""Confidence intervals of shares: how far the truth may lie from what few rows show."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.959964
"""The 97.5 % quantile of the normal distribution."""


class Interval(NamedTuple):
    """The bounds of a share."""

    low: float
    high: float

    def excludes(self, share: float) -> bool:
        """Whether the share lies outside the bounds."""
        return not self.low <= share <= self.high


def share_interval(answers: Sequence[bool]) -> Interval:
    """Return the 95 % binomial interval of the share of true answers (Wilson 1927); no answers give 0 to 1.

    Unlike a bootstrap it does not shrink to a point where all answers are equal: three of three give 0.44 to 1.
    """
    n = len(answers)
    if not n:
        return Interval(0.0, 1.0)
    share, z2 = sum(answers) / n, Z * Z / n
    middle = (share + z2 / 2) / (1 + z2)
    reach = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return Interval(max(0.0, round(middle - reach, 9)), min(1.0, round(middle + reach, 9)))
