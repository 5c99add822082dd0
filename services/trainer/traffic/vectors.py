"""Texts as vectors without a model: hashed n-grams, weighted by their rarity, in their main directions."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd

from services.trainer.training.light import feature_matrix, rarity
from shared.model.features import Floats, normalised
from shared.model.light import count_features

DIRECTIONS = 256


class NgramSpace:
    """Latent semantic analysis (Deerwester et al. 1990) on the features of a light selector."""

    def __init__(self, texts: Sequence[str], directions: int = DIRECTIONS, seed: int = 0) -> None:
        """Fit the space on a release's texts."""
        counted = [count_features(text) for text in texts]
        self._idf = rarity(counted)
        features = feature_matrix(counted, self._idf)
        rank = max(1, min(directions, len(texts) - 1))
        self._directions = randomized_svd(features, rank, random_state=seed)[2].T.astype(np.float32)

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Return `[texts, directions]`, each of length 1 or, where a text has nothing that the space knows, 0."""
        if not texts:
            return np.zeros((0, self._directions.shape[1]), dtype=np.float32)
        return normalised(self._features(texts) @ self._directions)

    def _features(self, texts: Sequence[str]) -> csr_matrix:
        return feature_matrix([count_features(text) for text in texts], self._idf)
