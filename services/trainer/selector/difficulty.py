"""Which labels a selector finds easy and which hard (paper, section 3.4, balance)."""

from collections.abc import Mapping
from typing import NamedTuple

from shared.contracts.labels import BACKGROUND


class Difficulty(NamedTuple):
    """Easy and hard labels; labels of medium accuracy are in neither list."""

    easy: list[str]
    hard: list[str]


def sort_by_accuracy(accuracy: Mapping[str, float], *, hard_below: float, easy_from: float) -> Difficulty:
    """Sort labels by their accuracy on validation rows; background is neither easy nor hard."""
    labels = sorted(set(accuracy) - {BACKGROUND})
    hard = [label for label in labels if accuracy[label] < hard_below]
    return Difficulty([label for label in labels if accuracy[label] >= easy_from and label not in hard], hard)
