"""A selector on rows: the label scores of its parts, and the labels that it selects by them."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.trainer.evaluation.calibration import NEVER
from shared.contracts.dialogue import Parts
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import ReleaseSelector, SelectorKind
from shared.contracts.routing import Routed
from shared.contracts.selection import DecidedBy, Selection, decide, label_probabilities, light_probabilities
from shared.model.light import LightSelector
from shared.model.prototypes import PrototypeScorer, Reading
from shared.model.scoring import Scorer, load_scorer
from shared.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Scores = NDArray[np.float32]

BATCH_ROWS = 16


class SelectorScores(NamedTuple):
    """Log-probabilities `[rows, labels]` of a selector's parts, in the order of its labels; None for one it lacks."""

    light: Scores | None
    """Of the light selector, or of prototypes."""
    llm: Scores | None

    def rows(self, chosen: NDArray[np.bool_]) -> "SelectorScores":
        """The scores of the chosen rows."""
        return SelectorScores(*(None if part is None else part[chosen] for part in self))


def joined_scores(one: SelectorScores, other: SelectorScores) -> SelectorScores:
    """The rows of both, of parts that both have."""
    pairs = zip(one, other, strict=True)
    return SelectorScores(*(None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs))


class SelectorScorer(NamedTuple):
    """Scores rows with a stored selector."""

    registry: Registry
    base_folder: Path
    tokenizer: "PreTrainedTokenizerBase"
    max_tokens: int
    dtype: str = "float32"
    check: Callable[[], None] = lambda: None
    encoder_folder: Path | None = None

    def score(self, selector: ReleaseSelector, texts: Sequence[str]) -> SelectorScores:
        """Score every text with every part of a selector; `check` is called before each batch and may raise."""
        return SelectorScores(
            self.score_light(selector, texts) if selector.light or selector.prototypes else None,
            self.score_llm(selector, texts) if selector.llm else None,
        )

    def one_by_one(self, selector: ReleaseSelector) -> Parts:
        """Return what scores one text after the other with a light selector, a language model, or both."""

        @cache
        def light() -> LightSelector:
            return LightSelector.load(self.registry.weights.fetch_light(selector.light)).in_order(selector.labels)

        @cache
        def llm() -> Scorer:
            return self._scorer(selector)

        return Parts(
            lambda text: light().score([text])[0].tolist(),
            lambda text: score_rows(llm(), [text], check=self.check)[0].tolist(),
        )

    def score_light(self, selector: ReleaseSelector, texts: Sequence[str]) -> Scores:
        """Label scores of the light selector, or of prototypes."""
        if selector.prototypes:
            file = self.registry.weights.fetch_prototypes(selector.prototypes)
            reading = Reading(lambda: self.base_folder, self.encoder_folder, self.dtype, self.check)
            return PrototypeScorer.load(file, selector, reading).score(texts)
        light = LightSelector.load(self.registry.weights.fetch_light(selector.light))
        return light.in_order(selector.labels).score(texts)

    def score_llm(self, selector: ReleaseSelector, texts: Sequence[str]) -> Scores:
        """Label scores of the language model."""
        return score_rows(self._scorer(selector), texts, check=self.check)

    def _scorer(self, selector: ReleaseSelector) -> Scorer:
        labels = [parse_label(label) for label in selector.labels]
        weights = self.registry.weights.fetch(selector.llm)
        return load_scorer(
            self.base_folder, weights, self.tokenizer, labels, max_tokens=self.max_tokens, dtype=self.dtype
        )


def score_rows(
    scorer: Scorer, texts: Sequence[str], batch_size: int = BATCH_ROWS, *, check: Callable[[], None] = lambda: None
) -> Scores:
    """Return `[rows, labels]` log-probabilities in the order of the rows; a batch holds texts of similar length.

    `check` is called before each batch and may raise.
    """
    scores = np.zeros((len(texts), len(scorer.labels)), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for at in range(0, len(order), batch_size):
        check()
        part = order[at : at + batch_size]
        scores[part] = scorer.score([texts[row] for row in part])
    return scores


def selections(selector: ReleaseSelector, scores: SelectorScores) -> list[Selection]:
    """The selection that the service would make for each row."""
    return [decide(selector, probabilities, by) for probabilities, by in calibrated_probabilities(selector, scores)]


def calibrated_probabilities(selector: ReleaseSelector, scores: SelectorScores) -> list[tuple[list[float], DecidedBy]]:
    """Calibrated probabilities of each row's labels, and the parts that the service would have used for it."""
    rows = next(len(part) for part in scores if part is not None)
    light, llm = ([()] * rows if part is None else part.tolist() for part in scores)
    return [
        label_probabilities(selector, lambda a=a: a, lambda b=b: b)  # type: ignore[misc]
        for a, b in zip(light, llm, strict=True)
    ]


def route_rows(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> list[Routed]:
    """Where each row goes, with the probability of that: for a rejected row, 1 minus that of its best label."""
    return [
        _routed(gold_label, selection) for gold_label, selection in zip(gold, selections(selector, scores), strict=True)
    ]


def _routed(gold: str, selection: Selection) -> Routed:
    best = selection.best.probability
    return Routed(gold, selection.label, best) if selection.label else Routed(gold, BACKGROUND, 1 - best)


def parts_of(selector: ReleaseSelector) -> dict[SelectorKind, ReleaseSelector]:
    """The selector, and each part of a cascade as a selector of its own; none of them rejects anything."""
    whole = selector.model_copy(update={"threshold": 0.0})
    if whole.kind != "cascade":
        return {whole.kind: whole}
    return {
        "llm": whole.model_copy(update={"light": ""}),
        "light": whole.model_copy(update={"llm": ""}),
        "cascade": whole,
    }


class Point(NamedTuple):
    """A cascade that passes a share of the rows on to the language model, and its accuracy."""

    llm_share: float
    sure: float
    """Its `cascade_threshold`; reports have this name for it."""
    accuracy: float


def curve(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], steps: int = 20) -> list[Point]:
    """Accuracy at other cascade thresholds, from never using the language model to using it for every row."""
    assert scores.light is not None
    confidences = np.sort([max(light_probabilities(selector, row)) for row in scores.light.tolist()])
    thresholds = [0.0, *np.quantile(confidences, np.linspace(0, 1, steps + 1)[1:-1]).tolist(), NEVER]
    points = []
    for threshold in thresholds:
        routed = route_rows(selector.model_copy(update={"cascade_threshold": threshold}), scores, gold)
        llm_share = float(np.mean(confidences < threshold))
        points.append(Point(llm_share, threshold, sum(row.is_right for row in routed) / len(routed)))
    return points
