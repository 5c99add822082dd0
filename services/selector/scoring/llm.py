"""The LLM selector: base weights with the selector's LoRA merged in, one scoring pass for a batch."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.contracts.labels import parse_label
from shared.contracts.manifests import ReleaseSelector

if TYPE_CHECKING:
    from shared.model.scoring import Scorer

# The current release's selector and the one before it, which jobs in flight may still be pinned to.
KEPT = 2


class LlmScorers:
    """Scorers of selectors, the least recently used one dropped; `score_many` is for one thread alone.

    Nothing heavy is imported or loaded before the first selector that has a language model's part.
    """

    def __init__(
        self,
        base_folder: Callable[[], Path],
        fetch: Callable[[str], Path],
        *,
        dtype: str,
        max_tokens: int,
        on_load: Callable[[], Any],
    ) -> None:
        self._base_folder = base_folder
        self._fetch = fetch
        self._dtype = dtype
        self._max_tokens = max_tokens
        self._on_load = on_load
        self._scorers: OrderedDict[tuple[str, tuple[str, ...]], Scorer] = OrderedDict()

    def prefetch(self, selector: ReleaseSelector) -> None:
        """Have the weights of a selector here that is not in memory yet; any thread may call it.

        Raises `Unavailable` where the store does not answer: the batcher's thread must not wait for that.
        """
        if selector.llm and _key(selector) not in self._scorers:
            self._fetch(selector.llm)

    def score_many(self, selector: ReleaseSelector, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Log-probabilities `[texts, labels]`; loads the selector where it is not in memory."""
        scores: Sequence[Sequence[float]] = self._scorer(selector).score(list(texts)).tolist()
        return scores

    def _scorer(self, selector: ReleaseSelector) -> "Scorer":
        key = _key(selector)
        if key not in self._scorers:
            # Loaded first: what works stays, where the new one cannot be loaded.
            self._scorers[key] = self._load(selector)
            self._on_load()
            if len(self._scorers) > KEPT:
                self._scorers.popitem(last=False)
        self._scorers.move_to_end(key)
        return self._scorers[key]

    def _load(self, selector: ReleaseSelector) -> "Scorer":
        from shared.model.base import load_tokenizer
        from shared.model.scoring import load_scorer

        base = self._base_folder()
        labels = [parse_label(label) for label in selector.labels]
        weights = self._fetch(selector.llm)
        return load_scorer(base, weights, load_tokenizer(base), labels, max_tokens=self._max_tokens, dtype=self._dtype)


def _key(selector: ReleaseSelector) -> tuple[str, tuple[str, ...]]:
    """The same weights score differently under another label list."""
    return selector.llm, selector.labels
