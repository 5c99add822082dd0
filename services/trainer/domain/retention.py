"""The share of the old representation set that a retrained selector still sees (paper, section 3.4)."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

RowT = TypeVar("RowT")


def retain(rows_by_label: Mapping[str, Sequence[RowT]], share: float, seed: int) -> dict[str, list[RowT]]:
    """Return for each label `share` of its rows, at least one, drawn by seed and label, in their old order."""
    return {label: _sample(rows, share, f"{seed}:{label}") for label, rows in rows_by_label.items()}


def _sample(rows: Sequence[RowT], share: float, seed: str) -> list[RowT]:
    # The tiny subtraction keeps 0.3 * 10 at 3 rows: in floating point it is a little more than 3.
    count = min(len(rows), max(1, math.ceil(share * len(rows) - 1e-9)))
    kept = random.Random(seed).sample(range(len(rows)), count)  # noqa: S311
    return [rows[index] for index in sorted(kept)]
