"""From label scores to a decision: calibrated probabilities, the best label, or none of them."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from shared.contracts.generation import LabelProbability, SelectionResult
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector, SelectorText

RUNNERS_UP = 3

DecidedBy = Literal["light", "llm", "both"]

Row = Sequence[float]
"""Log-probabilities of a selector's labels, in its order, before calibration."""


class Candidate(NamedTuple):
    """A label and its calibrated probability."""

    label: str
    probability: float


class Selection(NamedTuple):
    """What the selector says of one text; `label` is empty where it was rejected."""

    label: str
    best: Candidate
    """The most probable real label, whether it was taken or not."""
    confidence: float
    """In it, between 0 and 1: what the release's threshold is compared with."""
    runners_up: list[Candidate]
    label_set: list[str]
    """Every real label probable enough that together they hold the right one as often as the release states."""
    by: DecidedBy
    """Who was asked."""

    def as_result(self, selector: ReleaseSelector, *, release: str, score_ms: float) -> SelectionResult:
        """The form in which ledger and API show it."""
        return SelectionResult(
            label=self.label or None,
            probability=round(self.best.probability, 6),
            confidence=self.confidence,  # a threshold may be nearer to 1 than digits that people read
            best_label=self.best.label,
            runners_up=tuple(
                LabelProbability(label=c.label, probability=round(c.probability, 6)) for c in self.runners_up
            ),
            label_set=tuple(self.label_set),
            coverage=selector.coverage,
            rejected=not self.label,
            threshold=selector.threshold,
            selector=selector.digest,
            by=self.by,
            release=release,
            score_ms=score_ms,
        )


def selection_text(reading: SelectorText, text: str, instruction: str = "") -> str:
    """What a selector reads, trained or serving: the input alone (as in the paper), or the instruction and it."""
    return f"{instruction}\n{text}" if instruction and reading == "instruction+input" else text


def select(selector: ReleaseSelector, light: Callable[[], Row], llm: Callable[[], Row]) -> Selection:
    """Ask the light selector first, and the language model only where that one is not sure; then decide.

    A selector of one kind asks that one alone. `light` and `llm` are called at most once each.
    """
    return decide(selector, *read(selector, light, llm))


def read(selector: ReleaseSelector, light: Callable[[], Row], llm: Callable[[], Row]) -> tuple[list[float], DecidedBy]:
    """Calibrated probabilities of the labels, and who was asked; see `select`."""
    if not selector.light:
        return _calibrated([(selector.llm_weight, llm())]), "llm"
    quick = light()
    alone = alone_probabilities(selector, quick)
    if not selector.llm or max(alone) >= selector.cascade_threshold:
        return alone, "light"
    return _calibrated([(selector.light_weight, quick), (selector.llm_weight, llm())]), "both"


def alone_probabilities(selector: ReleaseSelector, light: Row) -> list[float]:
    """What the light selector says where it is asked alone, calibrated; in the order of the labels."""
    return _calibrated([(selector.light_alone_weight, light)])


def decide(selector: ReleaseSelector, probabilities: Row, by: DecidedBy) -> Selection:
    """Take the best real label where its confidence reaches the release's threshold, and none otherwise."""
    ranked = sorted(map(Candidate, selector.labels, probabilities), key=lambda c: -c.probability)
    best, *others = real = [c for c in ranked if c.label != BACKGROUND]
    confidence = _confidence(ranked, best, selector.none_weight)
    label_set = [c.label for c in real if c.probability >= selector.conformal_threshold]
    taken = confidence >= selector.threshold
    return Selection(best.label if taken else "", best, confidence, others[:RUNNERS_UP], label_set, by)


def _confidence(ranked: Sequence[Candidate], best: Candidate, none_weight: float) -> float:
    """The best label's probability, its odds divided by the probability of `BACKGROUND` to the power of its weight.

    Two texts may be equally unsure, one between two labels and one between a label and none: this tells them apart.
    """
    none = next((c.probability for c in ranked if c.label == BACKGROUND), 1.0)
    others = sum(c.probability for c in ranked if c is not best)
    against = others * none**none_weight
    return best.probability / (best.probability + against) if best.probability else 0.0


def _calibrated(scores: Sequence[tuple[float, Row]]) -> list[float]:
    """The weighted product of what several say, as probabilities (Hinton 2002: a product of experts)."""
    columns = zip(*(row for _, row in scores), strict=True)
    totals = [sum(weight * score for (weight, _), score in zip(scores, column, strict=True)) for column in columns]
    top = max(totals)
    shares = [math.exp(total - top) for total in totals]
    whole = sum(shares)
    return [share / whole for share in shares]
