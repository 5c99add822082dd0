"""The share of the old representation set that an update trains on again (paper, section 3.4)."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

RowT = TypeVar("RowT")


class Point(NamedTuple):
    """The result of one retention ratio on validation rows."""

    retention: float
    accuracy: float
    loss: float  # largest loss of accuracy of a kept label
    worst: str  # the label with that loss, empty where no label is kept


def least_loss(curve: Sequence[Point]) -> Point:
    """Return the point with the smallest loss, and of several such points the one with the smallest ratio."""
    return min(curve, key=lambda point: (point.loss, point.retention))


def retain(rows_by_label: Mapping[str, Sequence[RowT]], share: float, seed: int) -> dict[str, list[RowT]]:
    """Return for each label `share` of its rows, sampled by seed and label, in their old order.

    Every label keeps at least one row, except at a share of 0, which returns no labels.
    """
    if not share:
        return {}
    return {label: _sample(rows, share, f"{seed}:{label}") for label, rows in rows_by_label.items()}


def _sample(rows: Sequence[RowT], share: float, seed: str) -> list[RowT]:
    # The subtraction makes 0.3 * 10 give 3 rows: in floating point the product is slightly larger than 3.
    count = min(len(rows), max(1, math.ceil(share * len(rows) - 1e-9)))
    kept = random.Random(seed).sample(range(len(rows)), count)  # noqa: S311
    return [rows[index] for index in sorted(kept)]
