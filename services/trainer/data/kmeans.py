"""k-means under the paper's three distances (paper, section 3.3, algorithm 1)."""

import numpy as np

from shared.contracts.training_settings import Clustering, Distance
from shared.model.features import Floats, normalised

ITERATIONS = 8
"""After greedy seeding, further iterations lower the inertia by less than half a percent."""
DRAWN, KEPT = 64, 16
"""Number of rows drawn in a round of seeding, and how many of them become seeds."""


def cluster(
    vectors: Floats, k: int, distance: Distance = "l2", clustering: Clustering = "by-distance", seed: int = 0
) -> Floats:
    """Return `[k, hidden]` centroids of `vectors` `[n, hidden]`, n at least k.

    `ip` and `cos` cluster directions on the sphere: `ip` weights them by their lengths, `cos` equally. With
    `paper-code` every distance clusters as `l2` does. The result is deterministic for a seed.
    """
    if clustering == "paper-code" or distance == "l2":
        points = np.ascontiguousarray(vectors, dtype=np.float32)
        return _lloyd(points, seeds(points, k, seed), is_spherical=False)
    directions = normalised(vectors)
    points = directions if distance == "cos" else np.ascontiguousarray(vectors, dtype=np.float32)
    return _lloyd(points, seeds(directions, k, seed), is_spherical=True)


def seeds(vectors: Floats, k: int, seed: int) -> Floats:
    """Return `k` start rows `[k, hidden]` by greedy k-means++, in rounds that need one matrix product each.

    A round draws many rows at once (Bahmani et al. 2012) by their squared distance to the seeds so far (Arthur and
    Vassilvitskii 2007), and keeps, one by one, those that lower the inertia most.
    """
    rng = np.random.default_rng(seed)
    squares = np.einsum("nh,nh->n", vectors, vectors)
    first = int(rng.integers(len(vectors)))
    chosen, nearest = [first], _distances(vectors, squares, [first])[0]
    while len(chosen) < k:
        drawn = _draw(nearest, rng)
        distances = _distances(vectors, squares, drawn)
        for _ in range(min(KEPT, k - len(chosen))):
            np.minimum(distances, nearest, out=distances)  # to the nearest seed, if this row were a seed
            best = int(distances.sum(axis=1).argmin())
            nearest = distances[best].copy()
            chosen.append(drawn[best])
    return vectors[chosen]


def _draw(weights: Floats, rng: np.random.Generator) -> list[int]:
    totals = np.cumsum(weights, dtype=np.float64)
    drawn = np.searchsorted(totals, rng.random(DRAWN) * totals[-1], side="right")
    return [int(row) for row in np.minimum(drawn, len(weights) - 1)]


def _distances(vectors: Floats, squares: Floats, rows: list[int]) -> Floats:
    """Squared distances of these rows to all rows, `[rows, n]`."""
    found = vectors[rows] @ vectors.T
    found *= -2
    found += squares
    found += squares[rows, None]
    return np.maximum(found, 0, out=found)


def _lloyd(points: Floats, start: Floats, *, is_spherical: bool) -> Floats:
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1],
        len(start),
        niter=ITERATIONS,
        spherical=is_spherical,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),  # never a subsample
    )
    kmeans.train(points, init_centroids=start)
    return np.asarray(kmeans.centroids, dtype=np.float32)
