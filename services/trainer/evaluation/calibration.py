"""A selector's thresholds: of rejection, of the cascade, and of conformal label sets."""

import math
from collections.abc import Sequence
from typing import NamedTuple

NEVER = 2.0
"""A threshold above every probability."""


class CalibrationTarget(NamedTuple):
    """What the thresholds should reach on validation rows."""

    max_false_reject: float = 0.02
    """Largest share of in-domain rows that may be rejected."""
    background_reject: float = 1.0
    """Share of background rows whose rejection is enough."""
    min_threshold: float = 0.0
    """Lower bound of the rejection threshold, as far as `max_false_reject` allows it."""
    min_llm_share: float = 0.0
    """Smallest share of rows that a cascade passes on to the language model."""
    max_llm_share: float = 1.0
    """Largest share of rows that a cascade passes on to the language model."""


class Threshold(NamedTuple):
    """A rejection threshold, and what it rejects of the rows that it was chosen on."""

    value: float
    false_reject: float  # share of in-domain rows rejected
    background_reject: float  # share of background rows rejected


def choose_threshold(in_domain: Sequence[float], background: Sequence[float], target: CalibrationTarget) -> Threshold:
    """Return the threshold that rejects the target's share of background, or as much as `max_false_reject` allows.

    Each number is the confidence of a row's best real label. A row is rejected below the threshold.
    """
    value = _threshold_value(in_domain, background, target)
    return Threshold(value, _share_rejected(in_domain, value), _share_rejected(background, value))


def _threshold_value(in_domain: Sequence[float], background: Sequence[float], target: CalibrationTarget) -> float:
    highest = _highest_allowed(in_domain, target.max_false_reject)
    to_reject = sorted(background)[: math.ceil(target.background_reject * len(background) - 1e-9)]
    if background and not to_reject:
        return 0.0
    below = [confidence for confidence in to_reject if confidence < highest]
    if not below:
        return highest
    # Every threshold up to the next row above rejects the same rows; the middle leaves both sides a margin.
    above = [confidence for confidence in (*background, highest) if confidence > below[-1]]
    return min(highest, max(target.min_threshold, (below[-1] + min(above)) / 2))


def _highest_allowed(in_domain: Sequence[float], max_false_reject: float) -> float:
    ordered = sorted(in_domain)
    return ordered[min(int(max_false_reject * len(ordered) + 1e-9), len(ordered) - 1)] if ordered else 0.0


def _share_rejected(confidences: Sequence[float], threshold: float) -> float:
    rejected = sum(confidence < threshold for confidence in confidences)
    return rejected / max(len(confidences), 1)


def choose_conformal_threshold(gold_probabilities: Sequence[float], coverage: float) -> float:
    """Return the probability from which a label belongs to a set, so that sets hold the gold label with `coverage`.

    `gold_probabilities` are those of the gold labels of validation rows. Where there are too few rows to guarantee the
    coverage, the threshold is 0 and every set holds all labels (Sadinle et al. 2019; split conformal prediction).
    """
    rank = math.ceil((len(gold_probabilities) + 1) * coverage - 1e-9)
    return sorted(gold_probabilities, reverse=True)[rank - 1] if rank <= len(gold_probabilities) else 0.0


class CascadeRow(NamedTuple):
    """One validation row: the light selector's confidence, and which of light selector and cascade are right."""

    confidence: float
    light_is_right: bool
    both_are_right: bool
    light_rejects: bool = False  # it has a best label, whose confidence is under the rejection threshold


def choose_cascade_threshold(
    rows: Sequence[CascadeRow], min_confidence: float, min_llm_share: float = 0.0, max_llm_share: float = 1.0
) -> float:
    """Return the lowest confidence from which the light selector may decide alone without loss, `NEVER` if none.

    The rows are taken from the most confident one down. The threshold stands above the first row at which the light
    selector has made more errors than both together, or that it rejects, or that is under `min_confidence`. Then it is
    raised until the language model gets `min_llm_share` of the rows, and lowered until it gets at most `max_llm_share`.
    """
    found, lead = NEVER, 0
    for row in sorted(rows, key=lambda row: (-row.confidence, not row.light_rejects, row.light_is_right)):
        lead += row.light_is_right - row.both_are_right
        if row.light_rejects or row.confidence < min_confidence or lead < 0:
            break
        found = row.confidence
    ascending = sorted(row.confidence for row in rows)
    return min(max(found, _lowest_for(min_llm_share, ascending)), _highest_for(max_llm_share, ascending))


def _lowest_for(min_llm_share: float, ascending: Sequence[float]) -> float:
    """The lowest threshold that passes at least this share of the rows on."""
    needed = math.ceil(min_llm_share * len(ascending) - 1e-9)
    if not needed:
        return 0.0
    return next((confidence for confidence in ascending[needed:] if confidence > ascending[needed - 1]), NEVER)


def _highest_for(max_llm_share: float, ascending: Sequence[float]) -> float:
    """The highest threshold that passes at most this share of the rows on."""
    allowed = int(max_llm_share * len(ascending) + 1e-9)
    return ascending[allowed] if allowed < len(ascending) else NEVER
