"""The share of the old representation set that a retrained selector still sees (paper, section 3.4)."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

RowT = TypeVar("RowT")

RATIOS = (0.0, 0.1, 0.3, 0.5, 1.0)
"""The paper's, with nothing and everything at their ends."""


class Point(NamedTuple):
    """What came of one retention ratio, on validation rows."""

    retention: float
    accuracy: float
    loss: float  # of the kept label that lost most
    worst: str  # that label, empty where there is none


def smallest_that_holds(curve: Sequence[Point]) -> Point:
    """Return the ratio to take from a curve that ends with the first one that loses little enough.

    Where none does, it is the one that loses least, the smallest of those.
    """
    return min(curve, key=lambda point: (point.loss, point.retention))


def retain(rows_by_label: Mapping[str, Sequence[RowT]], share: float, seed: int) -> dict[str, list[RowT]]:
    """Return for each label `share` of its rows, drawn by seed and label, in their old order.

    At least one row a label; a share of nothing is no label at all.
    """
    if not share:
        return {}
    return {label: _sample(rows, share, f"{seed}:{label}") for label, rows in rows_by_label.items()}


def _sample(rows: Sequence[RowT], share: float, seed: str) -> list[RowT]:
    # The tiny subtraction keeps 0.3 * 10 at 3 rows: in floating point it is a little more than 3.
    count = min(len(rows), max(1, math.ceil(share * len(rows) - 1e-9)))
    kept = random.Random(seed).sample(range(len(rows)), count)  # noqa: S311
    return [rows[index] for index in sorted(kept)]
