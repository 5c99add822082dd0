"""A selector on rows: label probabilities, the temperature that calibrates them, and what routing comes of it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.trainer.domain.calibration import MAX_FALSE_REJECT, Threshold, choose_threshold
from services.trainer.domain.metrics import Routed
from shared.labels import REJECT, Label
from shared.model.scoring import LabelScorer

Scores = NDArray[np.float32]

TEMPERATURES = np.geomspace(0.05, 20, 241)


def score_rows(
    scorer: LabelScorer, texts: Sequence[str], batch_size: int = 16, *, check: Callable[[], None] = lambda: None
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


def fit_temperature(scores: Scores, gold: Sequence[int]) -> float:
    """Return the temperature of least negative log-likelihood on held-out rows (Guo et al. 2017, section 4.2).

    `scores` `[rows, labels]` are log-probabilities, `gold` the right column of each; 1.0 where there are no rows.
    """
    if not len(gold):
        return 1.0
    rows = np.arange(len(gold))
    losses = [-tempered(scores, float(t))[rows, np.asarray(gold)].mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def tempered(scores: Scores, temperature: float) -> NDArray[np.float64]:
    """Return log-probabilities `[rows, labels]` after division by the temperature."""
    scaled = scores.astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def route_rows(
    scores: Scores, labels: Sequence[Label], gold: Sequence[str], temperature: float, threshold: float
) -> list[Routed]:
    """Return where each row goes: its best real label, or `REJECT` where that is less likely than the threshold.

    The probability is that of the decision; a rejected row's is what its best label lacks.
    """
    rows = []
    for row, (label, probability) in enumerate(_best_real(scores, labels, temperature)):
        taken = probability >= threshold
        rows.append(Routed(gold[row], label if taken else REJECT, probability if taken else 1 - probability))
    return rows


def _best_real(scores: Scores, labels: Sequence[Label], temperature: float) -> list[tuple[str, float]]:
    """The best label of each row that is not `REJECT`, with its calibrated probability among all."""
    real = [column for column, label in enumerate(labels) if str(label) != REJECT]
    probabilities = np.exp(tempered(scores, temperature))[:, real]
    return [(str(labels[real[int(row.argmax())]]), float(row.max())) for row in probabilities]


def fit_threshold(
    scores: Scores,
    labels: Sequence[Label],
    gold: Sequence[str],
    temperature: float,
    max_false_reject: float = MAX_FALSE_REJECT,
) -> Threshold:
    """Choose the rejection threshold on validation rows; those of label `REJECT` are the background."""
    sure = [probability for _, probability in _best_real(scores, labels, temperature)]
    return choose_threshold(
        [p for p, label in zip(sure, gold, strict=True) if label != REJECT],
        [p for p, label in zip(sure, gold, strict=True) if label == REJECT],
        max_false_reject,
    )
