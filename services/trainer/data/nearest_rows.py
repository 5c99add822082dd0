"""The rows that represent a task: the real rows nearest to the centroids of its vectors (paper, algorithm 1)."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.trainer.data.kmeans import cluster
from shared.contracts.training_settings import Clustering, Distance, Shortfall
from shared.model.features import Floats, normalised

if TYPE_CHECKING:
    from faiss import IndexFlat

TOPPED_UP_AT_ONCE = 64


def representative_rows(
    vectors: Floats,
    k: int,
    distance: Distance = "l2",
    *,
    clustering: Clustering = "by-distance",
    shortfall: Shortfall = "top-up",
    seed: int = 0,
) -> list[int]:
    """Return the sorted indices of different rows of `vectors` `[n, hidden]`, one for each of `k` centroids.

    Where centroids share their nearest row, `top-up` gives all but one of them the nearest row that is still free, so
    that there are `min(k, n)` rows; with `report` there are fewer. The result is deterministic for a seed.
    """
    if k >= len(vectors):
        return list(range(len(vectors)))
    centroids = cluster(vectors, k, distance, clustering, seed)
    searched = normalised(vectors) if distance == "cos" else np.ascontiguousarray(vectors, dtype=np.float32)
    owners: dict[int, int] = {}
    for centroid, row in enumerate(_nearest(searched, centroids, 1, distance)[:, 0]):
        owners.setdefault(int(row), centroid)
    if shortfall == "top-up":
        without = sorted(set(range(k)) - set(owners.values()))
        return sorted([*owners, *_next_nearest(searched, centroids[without], set(owners), distance)])
    return sorted(owners)


def _next_nearest(vectors: Floats, centroids: Floats, taken: set[int], distance: Distance) -> list[int]:
    """For each centroid, in order, its nearest row that is not taken."""
    found: list[int] = []
    for start in range(0, len(centroids), TOPPED_UP_AT_ONCE):
        some = centroids[start : start + TOPPED_UP_AT_ONCE]
        free = np.array(sorted(set(range(len(vectors))) - taken))
        # A batch of n centroids takes at most n rows, so one of the n nearest rows of each centroid is still free.
        for nearest in _nearest(vectors[free], some, min(len(some), len(free)), distance):
            row = next(int(row) for row in free[nearest] if int(row) not in taken)
            taken.add(row)
            found.append(row)
    return found


def _nearest(vectors: Floats, centroids: Floats, count: int, distance: Distance) -> NDArray[np.int64]:
    """Return `[centroids, count]`: for each centroid its nearest rows, nearest first."""
    index = _index(distance, vectors.shape[1])
    index.add(vectors)
    found: NDArray[np.int64] = index.search(centroids, count)[1]
    return found


def _index(distance: Distance, width: int) -> "IndexFlat":
    import faiss

    return faiss.IndexFlatL2(width) if distance == "l2" else faiss.IndexFlatIP(width)
