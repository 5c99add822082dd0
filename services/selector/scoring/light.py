"""Keeps light selectors in memory."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.contracts.manifests import ReleaseSelector
from shared.model.light import FEATURES, LightSelector

# The current release's selector and the former one, which jobs in flight may still use.
KEPT = 2


class LightSelectors:
    """A cache of light selectors, safe to share between threads; the least recently used one is dropped."""

    def __init__(self, fetch: Callable[[str], Path]) -> None:
        @lru_cache(maxsize=KEPT)
        def loaded(digest: str, labels: tuple[str, ...]) -> LightSelector:
            return LightSelector.load(fetch(digest)).in_order(labels)

        self._loaded = loaded

    def load(self, selector: ReleaseSelector) -> None:
        """Load the light selector into memory; raises `Unavailable` where the store does not answer."""
        if selector.light:
            self._loaded(selector.light, selector.labels)

    def idf(self, selector: ReleaseSelector) -> NDArray[np.float32]:
        """Return how much the selector heeds each feature `[features]`; one without a light part heeds all alike."""
        if not selector.light:
            return np.ones(FEATURES, dtype=np.float32)
        return self._loaded(selector.light, selector.labels).idf

    def score(self, selector: ReleaseSelector, text: str) -> list[float]:
        """Return the log-probabilities of the selector's labels."""
        scores: list[float] = self._loaded(selector.light, selector.labels).score([text])[0].tolist()
        return scores
