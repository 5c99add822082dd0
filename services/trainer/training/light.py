"""Fit a light selector: a linear model on hashed n-grams, fitted in seconds on one thread."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from services.trainer.training.noise import NoisyRow, with_noise
from shared.model.light import FEATURES, Counts, LightSelector, count_features, weigh

INVERSE_REGULARISATION = 10.0
MAX_STEPS = 200
FOLDS = 5


def fit_light(texts: Mapping[str, Sequence[str]]) -> LightSelector:
    """Fit a linear model on the texts of at least two labels and on noisy copies; all labels have the same weight."""
    idf = rarity([count_features(text) for own in texts.values() for text in own])
    rows = with_noise(texts)
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=MAX_STEPS)
    features = feature_matrix([count_features(row.text) for row in rows], idf)
    model.fit(features, [row.label for row in rows], sample_weight=_balanced(rows))
    weights, bias = model.coef_.T, model.intercept_
    if len(model.classes_) == 2:  # two labels have one column: the score of the second label minus that of the first
        weights, bias = np.hstack([-weights, weights]) / 2, np.array([-bias[0], bias[0]]) / 2
    return LightSelector(
        [str(label) for label in model.classes_],
        idf,
        np.ascontiguousarray(weights, dtype=np.float32),
        bias.astype(np.float32),
    )


def _balanced(rows: Sequence[NoisyRow]) -> list[float]:
    """The weight of each row, so that the rows of every label have the same sum of weights."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row.label] = sums.get(row.label, 0.0) + row.weight
    mean = sum(sums.values()) / len(sums)
    return [row.weight * mean / sums[row.label] for row in rows]


def cross_fitted(texts: Mapping[str, Sequence[str]]) -> tuple[NDArray[np.float32], list[str]]:
    """Score each text by a light selector that was fitted without it and a fifth of the others.

    Returns `[texts, labels]` log-probabilities, the labels in alphabetical order, and the label of each text; a label's
    only text has no score.
    """
    scores, gold = [np.zeros((0, len(texts)), dtype=np.float32)], []
    for fold in range(FOLDS):
        rows = [(label, text) for label, own in sorted(texts.items()) if len(own) > 1 for text in own[fold::FOLDS]]
        if rows:
            light = fit_light({label: _without_fold(own, fold) for label, own in texts.items()})
            scores.append(light.score([text for _, text in rows]))
            gold += [label for label, _ in rows]
    return np.concatenate(scores), gold


def _without_fold(texts: Sequence[str], fold: int) -> Sequence[str]:
    return [text for at, text in enumerate(texts) if at % FOLDS != fold] if len(texts) > 1 else texts


def rarity(counted: Sequence[Counts]) -> NDArray[np.float32]:
    """Inverse document frequency of every feature, smoothed, `[features]`."""
    seen = np.zeros(FEATURES)
    for counts in counted:
        seen[counts.features] += 1
    idf: NDArray[np.float32] = (np.log((1 + len(counted)) / (1 + seen)) + 1).astype(np.float32)
    return idf


def feature_matrix(counted: Sequence[Counts], idf: NDArray[np.float32]) -> csr_matrix:
    """Return the weighted features of texts, `[texts, features]`; there is one text at least."""
    ends = np.cumsum([0, *(len(counts.features) for counts in counted)])
    values = np.concatenate([weigh(counts, idf) for counts in counted])
    columns = np.concatenate([counts.features for counts in counted])
    return csr_matrix((values, columns, ends), shape=(len(counted), FEATURES))
