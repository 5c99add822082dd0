"""Prototypes from the vectors of labelled texts: no gradient, only means of clusters."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.trainer.data.kmeans import cluster
from shared.model.features import Floats, normalised
from shared.model.prototypes import Centroids, Prototypes, Space

TEXTS_A_CENTROID = 10
"""Texts of a label for each of its centroids."""
MOST_CENTROIDS = 8
TEXTS_FOR_A_SCALE = 20
"""Texts whose spread counts as much as the common one in the scale of a dimension."""
ROWS_AT_ONCE = 1024


class FittedPrototypes(NamedTuple):
    """Prototypes, and the texts that they are made of."""

    prototypes: Prototypes
    directions: Floats
    """`[texts, hidden]`"""
    members: NDArray[np.int64]
    """`[texts]`: the centroid that each text belongs to."""


def fit_prototypes(vectors: Floats, labels: Sequence[str], layer: int, seed: int) -> FittedPrototypes:
    """Take the vectors of texts `[texts, hidden]` and their labels; every label has the same weight in the centre."""
    names, columns = np.unique(np.array(labels), return_inverse=True)
    space = _space(vectors, columns)
    directions = space.directions(vectors)
    members = np.zeros(len(vectors), dtype=np.int64)
    owners: list[int] = []
    for column in range(len(names)):
        own = columns == column
        found = _clusters(directions[own], seed)
        members[own] = len(owners) + found
        owners += [column] * (int(found.max()) + 1)
    centroids = Centroids(normalised(_sums(directions, members, len(owners))), np.array(owners, dtype=np.int64))
    return FittedPrototypes(Prototypes([str(name) for name in names], space, centroids, layer), directions, members)


def _space(vectors: Floats, columns: NDArray[np.int64]) -> Space:
    means = np.stack([vectors[columns == column].mean(axis=0) for column in range(columns.max() + 1)])
    variance = vectors.var(axis=0)
    common = np.median(variance) + np.finfo(np.float32).tiny
    share = len(vectors) / (len(vectors) + TEXTS_FOR_A_SCALE)
    scale = np.sqrt(share * variance + (1 - share) * common).astype(np.float32)
    return Space(means.mean(axis=0), scale)


def _clusters(directions: Floats, seed: int) -> NDArray[np.int64]:
    """The cluster of each text, numbered without gaps."""
    count = min(-(-len(directions) // TEXTS_A_CENTROID), MOST_CENTROIDS)
    if count == 1:
        return np.zeros(len(directions), dtype=np.int64)
    nearest = (directions @ cluster(directions, count, "cos", seed=seed).T).argmax(axis=1)
    return np.unique(nearest, return_inverse=True)[1]


def _sums(directions: Floats, members: NDArray[np.int64], count: int) -> Floats:
    sums = np.zeros((count, directions.shape[1]), dtype=np.float32)
    np.add.at(sums, members, directions)
    return sums


def left_out_scores(fitted: FittedPrototypes, rows: NDArray[np.int64]) -> Floats:
    """Return `[rows, labels]` log-probabilities of these texts, each by the prototypes as they are without it.

    A label has the lowest score for its only text.
    """
    parts = [rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE)]
    empty = np.zeros((0, len(fitted.prototypes.labels)), dtype=np.float32)
    return np.concatenate([empty, *(_left_out(fitted, part) for part in parts)])


def _left_out(fitted: FittedPrototypes, rows: NDArray[np.int64]) -> Floats:
    prototypes, directions, members = fitted
    vectors = prototypes.centroids.vectors
    own, texts = members[rows], directions[rows]
    cosines = texts @ vectors.T
    sums = _sums(directions, members, len(vectors))[own] - texts
    is_alone = np.bincount(members, minlength=len(vectors))[own] == 1
    without = np.einsum("nh,nh->n", texts, normalised(sums))
    cosines[np.arange(len(rows)), own] = np.where(is_alone, -1.0, without)
    return prototypes.log_probabilities(cosines)


def ranks_of_described(fitted: FittedPrototypes, labels: Sequence[str], described: Mapping[int, str]) -> dict[str, int]:
    """Return how many labels' other texts are nearer to a description than its own label's are, by label.

    `described` names the label that each row of a description belongs to. Labels with a description alone are left out.
    """
    is_request = np.array([row not in described for row in range(len(labels))])
    names, columns = np.unique(np.array(labels), return_inverse=True)
    sums = _sums(fitted.directions[is_request], columns[is_request], len(names))
    has_requests = np.bincount(columns[is_request], minlength=len(names)) > 0
    cosines = fitted.directions @ normalised(sums).T
    cosines[:, ~has_requests] = -1.0
    own = {label: (row, int(columns[row])) for row, label in described.items()}
    return {label: int((cosines[row] > cosines[row, at]).sum()) for label, (row, at) in own.items() if has_requests[at]}
