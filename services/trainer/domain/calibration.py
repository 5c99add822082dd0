"""Where to draw the line under which a request is rejected."""

from collections.abc import Sequence
from typing import NamedTuple

MAX_FALSE_REJECT = 0.02


class Threshold(NamedTuple):
    """A rejection threshold with what it did to the rows it was chosen on."""

    value: float
    false_reject: float  # share of in-domain rows rejected
    background_reject: float  # share of background rows rejected


def choose_threshold(
    in_domain: Sequence[float], background: Sequence[float], max_false_reject: float = MAX_FALSE_REJECT
) -> Threshold:
    """Return the threshold that rejects most background while at most `max_false_reject` of in-domain rows go.

    Each number is the calibrated probability of a row's best real label. A row is rejected below the threshold.
    """
    value = _middle_of_gap(_highest_allowed(in_domain, max_false_reject), background)
    return Threshold(value, _share_rejected(in_domain, value), _share_rejected(background, value))


def _highest_allowed(in_domain: Sequence[float], max_false_reject: float) -> float:
    ordered = sorted(in_domain)
    return ordered[min(int(max_false_reject * len(ordered) + 1e-9), len(ordered) - 1)] if ordered else 0.0


def _middle_of_gap(highest: float, background: Sequence[float]) -> float:
    below = [probability for probability in background if probability < highest]
    # Every line between the two rejects the same rows; the middle leaves both sides a margin.
    return (highest + max(below)) / 2 if below else highest


def _share_rejected(probabilities: Sequence[float], threshold: float) -> float:
    rejected = sum(probability < threshold for probability in probabilities)
    return rejected / max(len(probabilities), 1)
