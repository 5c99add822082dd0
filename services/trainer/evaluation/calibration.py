"""Where to draw lines: to reject a request, to let the light selector decide alone, to take a label into a set."""

import math
from collections.abc import Sequence
from typing import NamedTuple

NEVER = 2.0
"""Above every probability."""


class CalibrationTarget(NamedTuple):
    """What the lines are to do on validation rows."""

    max_false_reject: float = 0.02
    background_reject: float = 1.0
    least: float = 0.0
    """A label less probable than this is not taken, however much background is rejected already."""
    min_llm_share: float = 0.0
    """Share of rows about which a cascade asks the language model at least."""
    max_llm_share: float = 1.0
    """Share of rows about which it may ask the language model."""


class Threshold(NamedTuple):
    """A rejection threshold with what it did to the rows it was chosen on."""

    value: float
    false_reject: float  # share of in-domain rows rejected
    background_reject: float  # share of background rows rejected


def choose_threshold(in_domain: Sequence[float], background: Sequence[float], target: CalibrationTarget) -> Threshold:
    """Return the threshold that rejects the share of background aimed at, or as much of it as `max_false_reject` lets.

    Each number is the confidence of a row's best real label. A row is rejected below the threshold.
    """
    value = _line(in_domain, background, target)
    return Threshold(value, _share_rejected(in_domain, value), _share_rejected(background, value))


def _line(in_domain: Sequence[float], background: Sequence[float], target: CalibrationTarget) -> float:
    highest = _highest_allowed(in_domain, target.max_false_reject)
    wanted = sorted(background)[: math.ceil(target.background_reject * len(background) - 1e-9)]
    if background and not wanted:
        return 0.0
    below = [probability for probability in wanted if probability < highest]
    if not below:
        return highest
    # Every line up to the next row above rejects the same rows; the middle leaves both sides a margin.
    above = [probability for probability in (*background, highest) if probability > below[-1]]
    return min(highest, max(target.least, (below[-1] + min(above)) / 2))


def _highest_allowed(in_domain: Sequence[float], max_false_reject: float) -> float:
    ordered = sorted(in_domain)
    return ordered[min(int(max_false_reject * len(ordered) + 1e-9), len(ordered) - 1)] if ordered else 0.0


def _share_rejected(probabilities: Sequence[float], threshold: float) -> float:
    rejected = sum(probability < threshold for probability in probabilities)
    return rejected / max(len(probabilities), 1)


def choose_conformal_threshold(right: Sequence[float], coverage: float) -> float:
    """Return the probability that all labels of a set must reach for sets to hold the right one with this coverage.

    `right` are the probabilities of the right labels of validation rows; with too few rows to promise anything the
    floor is 0 and every set holds all labels (Sadinle et al. 2019; split conformal prediction).
    """
    rank = math.ceil((len(right) + 1) * coverage - 1e-9)
    return sorted(right, reverse=True)[rank - 1] if rank <= len(right) else 0.0


class Opinion(NamedTuple):
    """One validation row: how sure the light selector is alone, and who would be right about it."""

    confidence: float
    light_is_right: bool
    both_are_right: bool
    is_open: bool = False  # the light selector has a best label that it would not take


def choose_cascade_threshold(
    rows: Sequence[Opinion], least: float, min_asked: float = 0.0, max_asked: float = 1.0
) -> float:
    """Return the probability from which on the light selector decides alone: as low as costs no row, `NEVER` if none.

    From the surest row down, the light one must at no point have been wrong more often than both together, nor leave a
    row open: what it would reject is left to both. Where that asks both about more than `max_asked` of the rows, the
    line is drawn lower, whatever that costs; where it asks about less than `min_asked` of them, higher.
    """
    found, ahead = NEVER, 0
    for row in sorted(rows, key=lambda row: (-row.confidence, not row.is_open, row.light_is_right)):
        ahead += row.light_is_right - row.both_are_right
        if row.is_open or row.confidence < least or ahead < 0:
            break
        found = row.confidence
    ascending = sorted(row.confidence for row in rows)
    return min(max(found, _lowest_asking(min_asked, ascending)), _highest_asking(max_asked, ascending))


def _lowest_asking(share: float, ascending: Sequence[float]) -> float:
    needed = math.ceil(share * len(ascending) - 1e-9)
    return (
        next((confidence for confidence in ascending[needed:] if confidence > ascending[needed - 1]), NEVER)
        if needed
        else 0.0
    )


def _highest_asking(share: float, ascending: Sequence[float]) -> float:
    allowed = int(share * len(ascending) + 1e-9)
    return ascending[allowed] if allowed < len(ascending) else NEVER
