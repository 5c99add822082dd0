"""Clusters of points that no known label explains: communities of a graph of nearest neighbours, tightened, stable."""

from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shared.model.features import Floats, normalised

NEIGHBOURS = 15
"""Of each point, at most a quarter of all: where everything is near to everything there are no communities."""
RESOLUTION = 2.0
"""Of modularity (Reichardt and Bornholdt 2006): the larger, the smaller the communities."""
JOINED = 0.85
"""Mean cosine between two communities over that within them, from which they are one."""
LEAST_SIZE = 15
LEAST_COSINE = 0.45
"""To its cluster's centre; a text farther away belongs to none."""
_TIGHTENINGS = 3
SUBSAMPLES, SUBSAMPLED = 10, 0.8
LEAST_STABILITY = 0.5
"""Mean Jaccard index at which a cluster is recovered from subsamples; below it is dissolved (Hennig 2007)."""
_NOVEL = 0.5
"""Of a point's nearest neighbours, those that must be unknown, too."""
_KNOWN_NEIGHBOURS = 10

Rows = NDArray[np.int64]


class Cluster(NamedTuple):
    """Rows that lie together, the nearest to their centre first, and how surely they do."""

    rows: Rows
    stability: float


def novel_rows(unknown: Floats, known: Floats) -> Rows:
    """Return the rows of `unknown` among whose nearest points at least half are unknown; both have length 1.

    Others are texts of a known label that its selector was not sure of.
    """
    nearest = _nearest(unknown, np.concatenate([unknown, known]), _KNOWN_NEIGHBOURS)
    return np.flatnonzero((nearest < len(unknown)).mean(axis=1) >= _NOVEL)


def stable_clusters(points: Floats, seed: int = 0) -> list[Cluster]:
    """Return the clusters of points `[n, directions]` of length 1 that subsamples show again, the largest first."""
    found = clusters(points, seed)
    rng = np.random.default_rng(seed)
    stability = np.zeros(len(found))
    for run in range(SUBSAMPLES if found else 0):
        sample = np.sort(rng.choice(len(points), int(SUBSAMPLED * len(points)), replace=False))
        again = [sample[rows] for rows in clusters(points[sample], seed + run + 1, int(SUBSAMPLED * LEAST_SIZE))]
        stability += [_recovered(np.intersect1d(rows, sample), again) for rows in found]
    stable = [Cluster(rows, float(mean)) for rows, mean in zip(found, stability / SUBSAMPLES, strict=True)]
    return sorted((one for one in stable if one.stability >= LEAST_STABILITY), key=lambda one: -len(one.rows))


def _recovered(rows: Rows, clusters_again: Sequence[Rows]) -> float:
    """The Jaccard index of the cluster that is most like these rows."""
    shared = [(len(np.intersect1d(rows, other)), len(other)) for other in clusters_again]
    return max((both / (len(rows) + size - both) for both, size in shared), default=0.0)


def clusters(points: Floats, seed: int = 0, least: int = LEAST_SIZE) -> list[Rows]:
    """Return the rows of each cluster of at least so many points, the nearest to its centre first; others are noise."""
    if len(points) < least:
        return []
    owners = _joined(points, _communities(points, seed))
    for _ in range(_TIGHTENINGS):
        kept = np.flatnonzero(np.bincount(owners[owners >= 0], minlength=1) >= least)
        if not len(kept):
            return []
        centres = normalised(np.stack([points[owners == owner].mean(axis=0) for owner in kept]))
        cosines = points @ centres.T
        owners = np.where(cosines.max(axis=1) >= LEAST_COSINE, cosines.argmax(axis=1), -1)
    ranked = [np.flatnonzero(owners == owner) for owner in range(len(kept))]
    ranked = [rows[np.argsort(-cosines[rows, owner], kind="stable")] for owner, rows in enumerate(ranked)]
    return [rows for rows in ranked if len(rows) >= least]


def _communities(points: Floats, seed: int) -> Rows:
    """The community of each point (Louvain, Blondel et al. 2008) where neighbours weigh by the neighbours they share.

    Shared neighbours tell groups of different density apart (Jarvis and Patrick 1973); a distance would not.
    """
    nearest = _nearest(points, points, min(NEIGHBOURS, len(points) // 4))
    count, width = nearest.shape
    starts = np.arange(0, nearest.size + 1, width)
    links = csr_matrix((np.ones(nearest.size), nearest.ravel(), starts), shape=(count, count))
    weights = (links @ links.T).multiply((links + links.T) > 0)
    graph = nx.from_scipy_sparse_array(csr_matrix(weights))
    owners = np.full(count, -1)
    for owner, members in enumerate(nx.community.louvain_communities(graph, resolution=RESOLUTION, seed=seed)):
        owners[list(members)] = owner
    return owners


def _joined(points: Floats, owners: Rows) -> Rows:
    """The owners after communities are joined, pair by pair, that are nearly as like each other as each is like itself.

    Communities of a graph are parts of a group where the graph has little else (Fortunato and Barthelemy 2007).
    """
    sizes = np.bincount(owners).astype(np.float64)
    sums = np.zeros((len(sizes), points.shape[1]))
    np.add.at(sums, owners, points)
    while True:
        likeness = _likeness(sums, sizes)
        one, other = np.unravel_index(np.argmax(likeness), likeness.shape)
        if likeness[one, other] < JOINED:
            return owners
        for totals in (sums, sizes):
            totals[one] += totals[other]
            totals[other] = 0
        owners = np.where(owners == other, one, owners)


def _likeness(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean cosine between two communities over that within them (geometric mean), `[communities, communities]`."""
    shared = sums @ sums.T
    pairs = np.maximum(sizes * (sizes - 1), 1)
    within = np.maximum((np.diagonal(shared) - sizes) / pairs, 0)
    scale = np.outer(sizes, sizes) * np.sqrt(np.outer(within, within))
    likeness: NDArray[np.float64] = np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)
    np.fill_diagonal(likeness, 0)
    return likeness


def _nearest(points: Floats, others: Floats, count: int) -> Rows:
    """The rows of the nearest others by cosine, `[points, count]`, fewer where there are fewer.

    The first others are the points themselves, and no point is its own neighbour.
    """
    import faiss

    count = min(count, len(others) - 1)
    found = faiss.knn(points, others, count + 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
    own = found == np.arange(len(points))[:, None]
    own[:, -1] |= ~own.any(axis=1)  # among many equal points its own row may be missing
    nearest: Rows = found[~own].reshape(len(points), count)
    return nearest
