"""How well conformal label sets keep what they state, on rows that nothing was fitted on."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.contracts.intervals import Interval, share_interval
from shared.contracts.labels import BACKGROUND
from shared.contracts.selection import Selection

_EMPTY = "an empty set says that the text was rejected and that no label is plausible"


class LabelSets(NamedTuple):
    """The label sets of rows that have a label; background rows have no right label to be in a set."""

    stated: float | None
    """The coverage that the release states; None where these rows refute it."""
    coverage: float
    """Share of rows whose set holds the right label."""
    interval: Interval
    """95 % interval of `coverage`."""
    mean_size: float
    empty: int
    """Rows that were rejected while no label was probable enough for a set."""
    taken_inside: float
    """Share of chosen labels that are in their own set."""
    note: str
    """What a reader should know about these sets."""


def measure_sets(found: Sequence[Selection], gold: Sequence[str], coverage: float) -> LabelSets:
    """Compare label sets with the coverage that the release states for them; no rows refute nothing."""
    rows = [(s, label) for s, label in zip(found, gold, strict=True) if label != BACKGROUND]
    held = [label in s.label_set for s, label in rows]
    taken = [s.label in s.label_set for s, _ in rows if s.label]
    interval = share_interval(held)
    is_refuted = interval.high < coverage
    return LabelSets(
        stated=None if is_refuted else coverage,
        coverage=sum(held) / max(len(held), 1),
        interval=interval,
        mean_size=sum(len(s.label_set) for s, _ in rows) / max(len(rows), 1),
        empty=sum(not s.label_set for s, _ in rows),
        taken_inside=sum(taken) / len(taken) if taken else 1.0,
        note=f"{_EMPTY}; {_refutation(interval, coverage)}" if is_refuted else _EMPTY,
    )


def _refutation(interval: Interval, coverage: float) -> str:
    return (
        f"sets cover at most {interval.high:.3f} of such rows, not {coverage:g}: they differ from the rows that the "
        "release was calibrated on, so train again with rows like these"
    )
