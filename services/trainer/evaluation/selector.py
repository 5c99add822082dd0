"""A selector on rows: what its parts say of each, how that is calibrated, and what routing comes of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from services.trainer.evaluation.calibration import (
    NEVER,
    CalibrationTarget,
    Opinion,
    Threshold,
    choose_cascade_threshold,
    choose_conformal_threshold,
    choose_threshold,
)
from services.trainer.evaluation.routing import Routed
from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import ReleaseSelector, SelectorKind
from shared.contracts.selection import DecidedBy, Selection, alone_probabilities, decide, read
from shared.model.light import LightSelector
from shared.model.scoring import Scorer, load_scorer
from shared.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Scores = NDArray[np.float32]

LARGEST_WEIGHT = 20.0
NONE_WEIGHTS = (0.0, 0.5, 1.0)
"""More than once is too much: it would reject by one pseudo-label's probability alone."""
_EVEN_CHANCE = 0.5


class SelectorScores(NamedTuple):
    """Log-probabilities `[rows, labels]` of a selector's parts, in the order of its labels; None for one it lacks."""

    light: Scores | None
    llm: Scores | None


class SelectorScorer(NamedTuple):
    """What it takes to read rows with a stored selector."""

    registry: Registry
    base_folder: Path
    tokenizer: "PreTrainedTokenizerBase"
    max_tokens: int
    dtype: str = "float32"
    check: Callable[[], None] = lambda: None

    def read(self, selector: ReleaseSelector, texts: Sequence[str]) -> SelectorScores:
        """Ask every part of a selector about every row; `check` is called before each batch and may raise to end it."""
        return SelectorScores(
            self.light(selector, texts) if selector.light else None,
            self.llm(selector, texts) if selector.llm else None,
        )

    def light(self, selector: ReleaseSelector, texts: Sequence[str]) -> Scores:
        """What the light part says of each row."""
        light = LightSelector.load(self.registry.weights.fetch_light(selector.light))
        return light.in_order(selector.labels).score(texts)

    def llm(self, selector: ReleaseSelector, texts: Sequence[str]) -> Scores:
        """What the language model's part says of each row."""
        labels = [parse_label(label) for label in selector.labels]
        weights = self.registry.weights.fetch(selector.llm)
        scorer = load_scorer(
            self.base_folder, weights, self.tokenizer, labels, max_tokens=self.max_tokens, dtype=self.dtype
        )
        return score_rows(scorer, texts, check=self.check)


def score_rows(
    scorer: Scorer, texts: Sequence[str], batch_size: int = 16, *, check: Callable[[], None] = lambda: None
) -> Scores:
    """Return `[rows, labels]` log-probabilities in the order of the rows; batches are made of texts of like length.

    `check` is called before each batch and may raise to end it.
    """
    scores = np.zeros((len(texts), len(scorer.labels)), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for at in range(0, len(order), batch_size):
        check()
        part = order[at : at + batch_size]
        scores[part] = scorer.score([texts[row] for row in part])
    return scores


def calibrated(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> tuple[ReleaseSelector, Threshold]:
    """Return the selector with weights and thresholds chosen on validation rows; those of `BACKGROUND` are background.

    A label less probable than by chance is not taken, where `target` leaves room for that.
    """
    right = [selector.labels.index(label) for label in gold]
    weights: dict[str, float] = {}
    if scores.light is not None:
        (weights["light_alone_weight"],) = fit_weights([scores.light], right)
    if scores.llm is not None:
        parts = {"light_weight": scores.light, "llm_weight": scores.llm}
        asked = {name: scores for name, scores in parts.items() if scores is not None}
        weights |= zip(asked, fit_weights(list(asked.values()), right), strict=True)
    weighted = selector.model_copy(update=weights)
    weighted = weighted.model_copy(update={"none_weight": _none_weight(weighted, scores, gold)})
    threshold = _threshold(weighted, scores, gold, target._replace(least=1 / len(selector.labels)))
    final = weighted.model_copy(update={"threshold": threshold.value})
    if selector.kind == "cascade":
        final = final.model_copy(update={"cascade_threshold": _cascade_threshold(final, scores, gold, target)})
    return final.model_copy(update={"conformal_threshold": _conformal_threshold(final, scores, gold)}), threshold


def fit_weights(scores: Sequence[Scores], gold: Sequence[int]) -> list[float]:
    """Return the weight of each `[rows, labels]` in their product that makes held-out rows likeliest.

    For one of them its inverse is the temperature of Guo et al. 2017, section 4.2. A prior of one row holds weights at
    1 where the rows say little; `gold` is the right column of each row.
    """
    if not len(gold):
        return [1.0] * len(scores)
    stacked = np.stack(scores).astype(np.float64)
    rows = np.arange(len(gold))

    def loss(weights: NDArray[np.float64]) -> float:
        logits = np.tensordot(weights, stacked, 1)
        top = logits.max(axis=1, keepdims=True)
        likelihood = logits[rows, gold] - top[:, 0] - np.log(np.exp(logits - top).sum(axis=1))
        return float(-likelihood.sum() + 0.5 * ((weights - 1) ** 2).sum())

    found = minimize(loss, np.ones(len(scores)), bounds=[(0.0, LARGEST_WEIGHT)] * len(scores))
    return [float(weight) for weight in found.x]


def selections(selector: ReleaseSelector, scores: SelectorScores) -> list[Selection]:
    """What the service would say of each row."""
    return [decide(selector, probabilities, by) for probabilities, by in readings(selector, scores)]


def readings(selector: ReleaseSelector, scores: SelectorScores) -> list[tuple[list[float], DecidedBy]]:
    """Calibrated probabilities of each row's labels, and who the service would have asked."""
    rows = next(len(scores) for scores in scores if scores is not None)
    light, llm = ([()] * rows if scores is None else scores.tolist() for scores in scores)
    return [read(selector, lambda a=a: a, lambda b=b: b) for a, b in zip(light, llm, strict=True)]  # type: ignore[misc]


def route_rows(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> list[Routed]:
    """Where each row goes; the probability is that of the decision: a rejected row's is what its best label lacks."""
    return [
        Routed(right, said.label or BACKGROUND, said.best.probability if said.label else 1 - said.best.probability)
        for right, said in zip(gold, selections(selector, scores), strict=True)
    ]


def parts_of(selector: ReleaseSelector) -> dict[SelectorKind, ReleaseSelector]:
    """The selector, and of a cascade each part alone, too; all of them reject nothing."""
    whole = selector.model_copy(update={"threshold": 0.0})
    if whole.kind != "cascade":
        return {whole.kind: whole}
    return {
        "llm": whole.model_copy(update={"light": ""}),
        "light": whole.model_copy(update={"llm": ""}),
        "cascade": whole,
    }


class Point(NamedTuple):
    """A cascade that asks the language model about a share of the rows: where it draws the line, what it reaches."""

    llm_share: float
    sure: float
    accuracy: float


def curve(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], steps: int = 20) -> list[Point]:
    """What a cascade would reach with other lines, from never asking the language model to asking it always."""
    assert scores.light is not None
    tops = np.sort([max(alone_probabilities(selector, row)) for row in scores.light.tolist()])
    lines = [0.0, *np.quantile(tops, np.linspace(0, 1, steps + 1)[1:-1]).tolist(), NEVER]
    points = []
    for sure in lines:
        routed = route_rows(selector.model_copy(update={"cascade_threshold": sure}), scores, gold)
        share = float(np.mean(tops < sure))
        points.append(Point(share, sure, sum(row.is_right for row in routed) / len(routed)))
    return points


def _none_weight(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> float:
    """The weight that best tells rows of labels from background by confidence (area under the ROC curve)."""
    is_inside = np.array([label != BACKGROUND for label in gold])
    if BACKGROUND not in selector.labels or is_inside.all() or not is_inside.any():
        return 0.0

    def area(weight: float) -> float:
        said = selections(selector.model_copy(update={"none_weight": weight}), scores)
        return float(roc_auc_score(is_inside, [selection.confidence for selection in said]))

    return max(NONE_WEIGHTS, key=area)


def _threshold(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> Threshold:
    said = zip(gold, selections(selector, scores), strict=True)
    sure = [(label, selection.confidence) for label, selection in said]
    return choose_threshold(
        [c for label, c in sure if label != BACKGROUND], [c for label, c in sure if label == BACKGROUND], target
    )


def _cascade_threshold(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> float:
    """The line over which the light selector decides alone; `selector` asks both about every row so far."""
    assert scores.light is not None
    alone = selector.model_copy(update={"llm": ""})
    rows = zip(
        readings(alone, scores), route_rows(alone, scores, gold), route_rows(selector, scores, gold), strict=True
    )
    judged = [
        Opinion(max(found), light.is_right, both.is_right, light.predicted == BACKGROUND != _likeliest(selector, found))
        for (found, _), light, both in rows
    ]
    return choose_cascade_threshold(judged, _EVEN_CHANCE, target.min_llm_share, target.max_llm_share)


def _likeliest(selector: ReleaseSelector, probabilities: Sequence[float]) -> str:
    return max(zip(probabilities, selector.labels, strict=True))[1]


def _conformal_threshold(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> float:
    """The least probability of a label in a conformal set, from the rows that belong somewhere."""
    rows = zip(readings(selector, scores), gold, strict=True)
    right = [said[selector.labels.index(label)] for (said, _), label in rows if label != BACKGROUND]
    return choose_conformal_threshold(right, selector.coverage)
