"""A space in which texts of one label lie close together, learnt from the labels that are known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.model.features import Floats, normalised

DIRECTIONS = 256
SHRINKAGE = 0.1
"""Of the covariance within labels, towards one that is the same in all directions."""
_LEAST_VARIANCE = 1e-6
"""Of a direction, against the largest one; a smaller one is rounding."""


class LabelSpace(NamedTuple):
    """Vectors less a centre, turned and scaled so that texts of one label spread equally in all directions."""

    centre: NDArray[np.float64]
    turn: NDArray[np.float64]
    """`[hidden, directions]`."""

    def of(self, vectors: Floats) -> Floats:
        """Return `[texts, directions]`, each of length 1; a vector that is the centre stays 0."""
        return normalised(((vectors - self.centre) @ self.turn).astype(np.float32))


def fit_space(vectors: Floats, labels: Sequence[str]) -> LabelSpace:
    """Fit a space to vectors `[rows, hidden]` of known labels.

    Within-class covariance normalisation (Hatch et al. 2006) after principal components: what differs among texts of
    the same label, such as their length, counts less, for new labels as well. Fewer than two rows change nothing.
    """
    if len(vectors) < 2:
        return LabelSpace(np.zeros(vectors.shape[1]), np.eye(vectors.shape[1]))
    rows = np.asarray(vectors, dtype=np.float64)
    centre = rows.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(rows.T, bias=True).reshape(len(centre), -1))
    kept = variances > max(_LEAST_VARIANCE * variances[-1], 1e-12)
    turn = directions[:, kept][:, -DIRECTIONS:]
    return LabelSpace(centre, turn @ _whitening((rows - centre) @ turn, labels))


def _whitening(points: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.float64]:
    """The inverse root of the mean covariance within labels, `[directions, directions]`."""
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    sums = np.zeros((codes.max() + 1, points.shape[1]))
    np.add.at(sums, codes, points)
    within = points - (sums / np.bincount(codes)[:, None])[codes]
    covariance = within.T @ within / len(points)
    mean_variance = np.trace(covariance) / max(len(covariance), 1)
    if mean_variance <= 0:  # one row a label
        return np.eye(points.shape[1])
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * mean_variance * np.eye(len(covariance))
    variances, directions = np.linalg.eigh(covariance)
    whitening: NDArray[np.float64] = directions / np.sqrt(variances) @ directions.T
    return whitening
