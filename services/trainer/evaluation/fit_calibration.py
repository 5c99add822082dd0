"""Fits a selector's weights and thresholds to the label scores of rows that it was not trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from services.trainer.evaluation.calibration import (
    CalibrationTarget,
    CascadeRow,
    Threshold,
    choose_cascade_threshold,
    choose_conformal_threshold,
    choose_threshold,
)
from services.trainer.evaluation.selector import (
    Scores,
    SelectorScores,
    calibrated_probabilities,
    route_rows,
    selections,
)
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.routing import Routed

LARGEST_WEIGHT = 20.0
NONE_WEIGHTS = (0.0, 0.5, 1.0)
"""Not above 1: a larger weight would reject by the probability of one pseudo-label only."""
_EVEN_CHANCE = 0.5
FOLDS = 5


def calibrate(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> tuple[ReleaseSelector, Threshold]:
    """Return the selector with weights and thresholds fitted on validation rows, whose labels are `gold`.

    The conformal threshold comes from rows that neither weights nor thresholds were fitted on.
    """
    fitted, threshold = _fit(selector, scores, gold, target)
    conformal_threshold = _conformal_threshold(selector, scores, gold, target)
    return fitted.model_copy(update={"conformal_threshold": conformal_threshold}), threshold


def _fit(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> tuple[ReleaseSelector, Threshold]:
    """The selector with weights, rejection threshold and cascade threshold.

    The rejection threshold is at least the probability of a label by chance, as far as `target` allows that.
    """
    weighted = _weighted(selector, scores, gold)
    weighted = weighted.model_copy(update={"none_weight": _none_weight(weighted, scores, gold)})
    threshold = _threshold(weighted, scores, gold, target._replace(min_threshold=1 / len(selector.labels)))
    final = weighted.model_copy(update={"threshold": threshold.value})
    if selector.kind == "cascade":
        final = final.model_copy(update={"cascade_threshold": _cascade_threshold(final, scores, gold, target)})
    return final, threshold


def _weighted(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> ReleaseSelector:
    columns = [selector.labels.index(label) for label in gold]
    weights: dict[str, float] = {}
    if scores.light is not None:
        (weights["light_alone_weight"],) = fit_weights([scores.light], columns)
    if scores.llm is not None:
        parts = {"light_weight": scores.light, "llm_weight": scores.llm}
        present = {name: scores for name, scores in parts.items() if scores is not None}
        weights |= zip(present, fit_weights(list(present.values()), columns), strict=True)
    return selector.model_copy(update=weights)


def folds(rows: int) -> list[NDArray[np.bool_]]:
    """Which rows each fold holds out; rows that are ordered by label are spread over all folds."""
    turns = np.arange(rows) % FOLDS
    return [turns == turn for turn in range(min(FOLDS, rows))]


def fit_weights(scores: Sequence[Scores], gold: Sequence[int]) -> list[float]:
    """Return the weight of each part's scores `[rows, labels]` that maximises the likelihood of the gold labels.

    The weight of a single part is the inverse of the temperature of Guo et al. 2017, section 4.2. A prior with the
    weight of one row pulls the weights to 1. `gold` holds the column of each row's gold label.
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


def _none_weight(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> float:
    """The `none_weight` whose confidences best separate rows of labels from background (area under the ROC curve)."""
    is_inside = np.array([label != BACKGROUND for label in gold])
    if BACKGROUND not in selector.labels or is_inside.all() or not is_inside.any():
        return 0.0

    def area(weight: float) -> float:
        weighted = selector.model_copy(update={"none_weight": weight})
        return float(roc_auc_score(is_inside, [selection.confidence for selection in selections(weighted, scores)]))

    return max(NONE_WEIGHTS, key=area)


def _threshold(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> Threshold:
    rows = list(zip(gold, selections(selector, scores), strict=True))
    in_domain = [selection.confidence for label, selection in rows if label != BACKGROUND]
    background = [selection.confidence for label, selection in rows if label == BACKGROUND]
    return choose_threshold(in_domain, background, target)


def _cascade_threshold(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> float:
    """The confidence from which the light selector decides alone; so far, `selector` uses both parts for every row."""
    light = selector.model_copy(update={"llm": ""})
    rows = zip(
        calibrated_probabilities(light, scores),
        route_rows(light, scores, gold),
        route_rows(selector, scores, gold),
        strict=True,
    )
    judged = [
        CascadeRow(max(row), by_light.is_right, by_both.is_right, _is_rejected(selector, row, by_light))
        for (row, _), by_light, by_both in rows
    ]
    return choose_cascade_threshold(judged, _EVEN_CHANCE, target.min_llm_share, target.max_llm_share)


def _is_rejected(selector: ReleaseSelector, probabilities: Sequence[float], routed: Routed) -> bool:
    """Whether the row goes nowhere though a real label is the most probable one."""
    most_probable = max(zip(probabilities, selector.labels, strict=True))[1]
    return routed.predicted == BACKGROUND != most_probable


def _conformal_threshold(
    selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str], target: CalibrationTarget
) -> float:
    """The least probability of a label in a conformal set, from the rows of real labels.

    Each row's probability is that of a selector fitted without it (cross-conformal prediction, Vovk 2015).
    """

    def fitted(scores: SelectorScores, gold: Sequence[str]) -> ReleaseSelector:
        if selector.kind != "cascade":  # only a cascade's probabilities depend on thresholds
            return _weighted(selector, scores, gold)
        return _fit(selector, scores, gold, target)[0]

    labels, of_gold = np.array(gold, dtype=object), []
    for held_out in folds(len(labels)):
        without = fitted(scores.rows(~held_out), labels[~held_out].tolist())
        of_gold += _gold_probabilities(without, scores.rows(held_out), labels[held_out].tolist())
    return choose_conformal_threshold(of_gold, selector.coverage)


def _gold_probabilities(selector: ReleaseSelector, scores: SelectorScores, gold: Sequence[str]) -> list[float]:
    """The probability of the right label of each row that has one."""
    rows = zip(calibrated_probabilities(selector, scores), gold, strict=True)
    return [row[selector.labels.index(label)] for (row, _), label in rows if label != BACKGROUND]
