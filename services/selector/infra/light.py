"""Light selectors in memory, by digest."""

from collections.abc import Callable
from pathlib import Path

from shared.model.light import LightSelector
from shared.registry import ReleaseSelector

# The current release's selector and the one before it, which jobs in flight may still be pinned to.
KEPT = 2


class LightSelectors:
    """Any thread may ask; the one loaded first is dropped."""

    def __init__(self, fetch: Callable[[str], Path]) -> None:
        self._fetch = fetch
        self._loaded: dict[str, LightSelector] = {}

    def load(self, selector: ReleaseSelector) -> None:
        """Have the light part in memory; raises `Unavailable` where the store does not answer."""
        if not selector.light or selector.light in self._loaded:
            return
        newest = {selector.light: LightSelector.load(self._fetch(selector.light))}
        kept = dict(list(self._loaded.items())[-(KEPT - 1) :])
        self._loaded = kept | newest  # replaced, never changed: other threads may be reading it

    def score(self, selector: ReleaseSelector, text: str) -> list[float]:
        """Log-probabilities of the selector's labels."""
        self.load(selector)
        known = self._loaded.get(selector.light) or LightSelector.load(self._fetch(selector.light))
        scores = known.score([text])[0]
        order = {label: column for column, label in enumerate(known.labels)}
        return [float(scores[order[label]]) for label in selector.labels]
