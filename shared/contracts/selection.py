"""Turns label scores into a selection: calibrated probabilities, then the best label or a rejection."""

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Literal, NamedTuple

from shared.contracts.generation import LabelProbability, SelectionResult
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseSelector
from shared.contracts.reading import SelectorText

RUNNERS_UP = 3
MOST_EXPLAINED = 64
"""Labels whose probabilities an explained selection has."""

DecidedBy = Literal["prototypes", "light", "llm", "both", "dialogue", "kept"]
Outcome = Literal["adapter", "base", "reject", "choices"]

LabelScores = Sequence[float]
"""Log-probabilities of a selector's labels, in its order, before calibration."""


class Candidate(NamedTuple):
    """A label and its calibrated probability."""

    label: str
    probability: float


class Selection(NamedTuple):
    """The selector's decision about one text; `label` is empty where it was rejected."""

    label: str
    best: Candidate
    """The most probable real label, whether or not it was chosen."""
    confidence: float
    """Confidence in `best`, between 0 and 1; the release's threshold is compared with it."""
    runners_up: list[Candidate]
    label_set: list[str]
    """The conformal set: real labels that contain the right one with the release's coverage, the chosen one always
    among them. It is empty only where the text was rejected and no label is probable enough."""
    by: DecidedBy
    """The parts of the selector that scored the text; `dialogue` and `kept` where turns before it decided
    (`shared.contracts.dialogue`)."""

    @property
    def is_ambiguous(self) -> bool:
        """Whether the text lies between two labels.

        The two best have half of the probability together, and the second at least half of the best one's.
        """
        second = self.runners_up[0].probability if self.runners_up else 0.0
        return 2 * second >= self.best.probability and self.best.probability + second >= 0.5

    @property
    def two_best(self) -> list[Candidate]:
        """The labels that a text between two labels may be meant for."""
        return [self.best, *self.runners_up[:1]]

    def as_result(
        self, selector: ReleaseSelector, *, release: str, score_ms: float, outcome: Outcome = "adapter"
    ) -> SelectionResult:
        """Return the form that ledger and API show."""
        return SelectionResult(
            label=self.label or None,
            probability=round(self.best.probability, 6),
            confidence=self.confidence,  # not rounded: a threshold may be very close to 1
            best_label=self.best.label,
            runners_up=_shown(self.runners_up),
            label_set=tuple(self.label_set),
            coverage=selector.coverage,
            rejected=not self.label,
            ambiguous=self.is_ambiguous,
            choices=_shown(self.two_best) if outcome == "choices" else (),
            threshold=selector.threshold,
            selector=selector.digest,
            by=self.by,
            release=release,
            score_ms=score_ms,
        )


def _shown(candidates: Sequence[Candidate]) -> tuple[LabelProbability, ...]:
    return tuple(LabelProbability(label=c.label, probability=round(c.probability, 6)) for c in candidates)


class Ruling(NamedTuple):
    """What a release makes of a selection; the label is empty where the text gets no adapter."""

    selection: Selection
    outcome: Outcome


def rule(release: Release, selection: Selection) -> Ruling:
    """Apply what a release says about rejected texts and about texts between two labels."""
    if release.ambiguous and selection.is_ambiguous:
        return Ruling(selection._replace(label=""), release.ambiguous)
    if selection.label:
        return Ruling(selection, "adapter")
    return Ruling(selection, "base" if release.reject_policy == "base" else "reject")


def selection_text(text_fields: SelectorText, text: str, instruction: str = "") -> str:
    """Return the text that a selector reads in training and serving: the input (paper), or instruction and input."""
    return f"{instruction}\n{text}" if instruction and text_fields == "instruction+input" else text


def select(selector: ReleaseSelector, light: Callable[[], LabelScores], llm: Callable[[], LabelScores]) -> Selection:
    """Score the text with the light selector, where its probability is low also with the language model; then decide.

    A selector with one part uses only that. `light` returns the scores of the light selector or of prototypes, `llm`
    those of the language model; each is called at most once.
    """
    return decide(selector, *label_probabilities(selector, light, llm))


def label_probabilities(
    selector: ReleaseSelector, light: Callable[[], LabelScores], llm: Callable[[], LabelScores]
) -> tuple[list[float], DecidedBy]:
    """Return calibrated probabilities of the labels, and the parts that were used; see `select`."""
    if not (selector.light or selector.prototypes):
        return _calibrated([(selector.llm_weight, llm())]), "llm"
    light_scores = light()
    by_light = light_probabilities(selector, light_scores)
    if not selector.llm or max(by_light) >= selector.cascade_threshold:
        return by_light, "prototypes" if selector.prototypes else "light"
    return _calibrated([(selector.light_weight, light_scores), (selector.llm_weight, llm())]), "both"


def light_probabilities(selector: ReleaseSelector, scores: LabelScores) -> list[float]:
    """Return calibrated probabilities of the light selector or of prototypes, in the order of the labels."""
    return _calibrated([(selector.light_alone_weight, scores)])


def decide(selector: ReleaseSelector, probabilities: Sequence[float], by: DecidedBy) -> Selection:
    """Choose the best real label if its confidence reaches the release's threshold, else reject the text."""
    ranked = _ranked(selector, probabilities)
    real = [pair for pair in ranked if pair[0] != BACKGROUND]
    best, *runners_up = map(Candidate._make, real[: RUNNERS_UP + 1])
    confidence = _confidence(ranked, best, selector.none_weight)
    taken = confidence >= selector.threshold
    label_set = [label for label, _ in takewhile(lambda pair: pair[1] >= selector.conformal_threshold, real)]
    label_set = label_set or [best.label] * taken
    return Selection(best.label if taken else "", best, confidence, runners_up, label_set, by)


def is_disputed(*, ambiguous: bool, by: str | None) -> bool:
    """Whether the parts of the selector were at odds about a text, by the fields of its kept selection.

    It lies between two labels; the light part was not sure and the language model decided with it; or the label of its
    conversation stood against its own.
    """
    return ambiguous or by in ("both", "kept")


def most_probable(selector: ReleaseSelector, probabilities: Sequence[float]) -> tuple[LabelProbability, ...]:
    """Return the most probable labels, the best first; `BACKGROUND` is among them."""
    return _shown([Candidate(*pair) for pair in _ranked(selector, probabilities)[:MOST_EXPLAINED]])


def _ranked(selector: ReleaseSelector, probabilities: Sequence[float]) -> list[tuple[str, float]]:
    # Plain pairs: there are a thousand labels, for each row of a calibration.
    return sorted(zip(selector.labels, probabilities, strict=True), key=itemgetter(1), reverse=True)


def _confidence(ranked: Sequence[tuple[str, float]], best: Candidate, none_weight: float) -> float:
    """The best label's probability, its odds divided by the probability of `BACKGROUND` to the power of its weight.

    At an equal probability of `best`, this separates a text between two labels from one between a label and none.
    """
    none = next((probability for label, probability in ranked if label == BACKGROUND), 1.0)
    others = sum(probability for label, probability in ranked if label != best.label)
    against = others * none**none_weight
    return best.probability / (best.probability + against) if best.probability else 0.0


def _calibrated(scores: Sequence[tuple[float, LabelScores]]) -> list[float]:
    """Return the weighted product of the parts' scores as probabilities (product of experts, Hinton 2002)."""
    weighted = [[weight * score for score in row] for weight, row in scores]
    totals = [sum(column) for column in zip(*weighted, strict=True)]
    top = max(totals)
    shares = [math.exp(total - top) for total in totals]
    whole = sum(shares)
    return [share / whole for share in shares]
