"""From label scores to a decision: calibrated probabilities, the best label, or none of them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.labels import REJECT
from shared.registry.manifests import ReleaseSelector

RUNNERS_UP = 3


class Candidate(NamedTuple):
    """A label and its calibrated probability."""

    label: str
    probability: float


class Selection(NamedTuple):
    """What the selector says of one text; `label` is empty where it was rejected."""

    label: str
    best: Candidate
    """The most probable real label, whether it was taken or not."""
    runners_up: list[Candidate]

    def as_fields(self, selector: ReleaseSelector) -> dict[str, Any]:
        """The form in which ledger and API show it."""
        return {
            "label": self.label or None,
            "probability": round(self.best.probability, 6),
            "best_label": self.best.label,
            "runners_up": [{"label": c.label, "probability": round(c.probability, 6)} for c in self.runners_up],
            "rejected": not self.label,
            "threshold": selector.threshold,
            "selector": selector.digest,
        }


def decide(log_probabilities: Sequence[float], selector: ReleaseSelector) -> Selection:
    """Take the best real label where its probability reaches the release's threshold, and none otherwise.

    `log_probabilities` are those of `selector.labels`, in that order, before calibration.
    """
    probabilities = _softmax([score / selector.temperature for score in log_probabilities])
    ranked = sorted(map(Candidate, selector.labels, probabilities), key=lambda c: -c.probability)
    best, *others = [c for c in ranked if c.label != REJECT]
    taken = best.probability >= selector.threshold
    return Selection(best.label if taken else "", best, others[:RUNNERS_UP])


def _softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]
