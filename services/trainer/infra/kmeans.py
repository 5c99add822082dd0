"""The rows that stand for a task: nearest real rows to the k-means centroids of its vectors (paper, algorithm 1)."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Distance = Literal["l2", "ip", "cos"]
Floats = NDArray[np.float32]

ITERATIONS = 20


def representative_rows(vectors: Floats, k: int, distance: Distance = "l2", seed: int = 0) -> list[int]:
    """Return the sorted indices of `min(k, n)` different rows of `vectors` `[n, hidden]`.

    The distance holds for clustering and search alike (`ip` and `cos` cluster on the sphere). Where centroids share
    their nearest row, the next nearest ones fill up. Deterministic for a seed.
    """
    if k >= len(vectors):
        return list(range(len(vectors)))
    vectors = _normalised(vectors) if distance == "cos" else np.ascontiguousarray(vectors, dtype=np.float32)
    ranking = _ranking(vectors, _centroids(vectors, k, distance, seed), distance)
    chosen: dict[int, None] = {}
    for row in _column_by_column(ranking):
        chosen.setdefault(row)
        if len(chosen) == k:
            break
    return sorted(chosen)


def _centroids(vectors: Floats, k: int, distance: Distance, seed: int) -> Floats:
    import faiss

    kmeans = faiss.Kmeans(
        vectors.shape[1],
        k,
        niter=ITERATIONS,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        spherical=distance != "l2",
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),  # never a subsample
    )
    kmeans.train(vectors)
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _ranking(vectors: Floats, centroids: Floats, distance: Distance) -> NDArray[np.int64]:
    """Return `[centroids, n]`: for each centroid all rows, nearest first."""
    import faiss

    index = faiss.IndexFlatL2(vectors.shape[1]) if distance == "l2" else faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    ranking: NDArray[np.int64] = index.search(centroids, len(vectors))[1]
    return ranking


def _column_by_column(ranking: NDArray[np.int64]) -> Iterator[int]:
    for column in ranking.T:
        yield from (int(row) for row in column)


def _normalised(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
