"""Vectors of texts in the directions in which they differ most (principal components)."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import pdist

from shared.model.features import Floats

COMPONENTS = 64
_LEAST_SPREAD = 1e-6
"""Of a component, against the largest one; a smaller one is rounding."""
_PAIRS = 500
"""Texts whose distances the median is taken of."""


class Projection(NamedTuple):
    """A centre, components, and the distance that is usual between two texts."""

    centre: Floats
    components: Floats
    """`[hidden, components]`; no components where all texts are alike."""
    width: float
    """The median distance of two texts: the bandwidth of a kernel (Gretton et al. 2012, section 8)."""

    def of(self, vectors: Floats) -> Floats:
        """Return `[texts, components]` for vectors `[texts, hidden]`."""
        found: Floats = ((vectors - self.centre) @ self.components).astype(np.float32)
        return found


def fit_projection(vectors: Floats) -> Projection:
    """Fit at most `COMPONENTS` principal components of vectors `[texts, hidden]`; fewer texts have fewer."""
    hidden = vectors.shape[1]
    if len(vectors) < 2:
        return Projection(np.zeros(hidden, np.float32), np.zeros((hidden, 0), np.float32), 1.0)
    centre = vectors.mean(axis=0)
    _, spread, directions = np.linalg.svd(vectors - centre, full_matrices=False)
    kept = int((spread[:COMPONENTS] > max(_LEAST_SPREAD * spread[0], 1e-12)).sum())
    components = np.ascontiguousarray(directions[:kept].T)
    return Projection(centre, components, _median_distance((vectors[:_PAIRS] - centre) @ components))


def _median_distance(points: Floats) -> float:
    distances = pdist(points)
    return float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
