"""Keeps prototypes in memory, and what reads texts for them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from shared.contracts.manifests import ReleaseSelector
from shared.model.prototypes import Prototypes, Reading, check_encoder
from shared.model.text_vectors import Embed

# The current release's prototypes and the former ones, which jobs in flight may still use.
KEPT = 2


class PrototypeScorers:
    """A cache of prototypes; the least recently used ones are dropped, what reads texts for them stays.

    Only one thread may call `score_many`; any thread may call `prefetch`.
    """

    def __init__(self, fetch: Callable[[str], Path], reading: Reading, *, on_load: Callable[[], object]) -> None:
        """`on_load` is called before a model that reads texts is loaded."""
        self._fetch = fetch
        self._on_load = on_load
        self._reading = reading
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], Prototypes] = OrderedDict()
        self._embeds: dict[tuple[str, int], Embed] = {}

    def prefetch(self, selector: ReleaseSelector) -> None:
        """Fetch a selector's prototypes to the disk; raises `Unavailable`, and `Invalid` for a missing encoder."""
        if selector.prototypes:
            check_encoder(selector, self._reading.encoder_folder)
            self._fetch(selector.prototypes)

    def score_many(self, selector: ReleaseSelector, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return log-probabilities `[texts, labels]`."""
        prototypes = self._loaded(selector)
        scores: Sequence[Sequence[float]] = prototypes.score(self._embed(selector, prototypes)(texts)).tolist()
        return scores

    def _loaded(self, selector: ReleaseSelector) -> Prototypes:
        key = selector.prototypes, selector.labels
        if key not in self._kept:
            file = self._fetch(selector.prototypes)
            self._kept[key] = Prototypes.load(file).in_order(selector.labels)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _embed(self, selector: ReleaseSelector, prototypes: Prototypes) -> Embed:
        key = selector.encoder, prototypes.layer
        if key not in self._embeds:
            self._on_load()
            self._embeds = {key: self._reading.of(selector, prototypes.layer)}
        return self._embeds[key]
