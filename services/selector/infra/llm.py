"""The LLM selector: base weights with the selector's LoRA merged in, one scoring pass for a batch."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.labels import parse_label
from shared.registry import ReleaseSelector

if TYPE_CHECKING:
    from shared.model.scoring import LabelScorer

# The current release's selector and the one before it, which jobs in flight may still be pinned to.
KEPT = 2


class LlmScorers:
    """Scorers by selector digest, the least recently used one dropped; `score_many` is for one thread alone."""

    def __init__(
        self,
        base_folder: Path,
        fetch: Callable[[str], Path],
        *,
        dtype: str,
        max_tokens: int,
        on_load: Callable[[], Any],
    ) -> None:
        from shared.model.base import load_tokenizer

        self._base_folder = base_folder
        self._fetch = fetch
        self._dtype = dtype
        self._max_tokens = max_tokens
        self._on_load = on_load
        self._tokenizer = load_tokenizer(base_folder)
        self._scorers: OrderedDict[str, LabelScorer] = OrderedDict()

    def prefetch(self, selector: ReleaseSelector) -> None:
        """Have the weights of a selector here that is not in memory yet; any thread may call it.

        Raises `Unavailable` where the store does not answer: the batcher's thread must not wait for that.
        """
        if selector.digest not in self._scorers:
            self._fetch(selector.digest)

    def score_many(self, selector: ReleaseSelector, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Log-probabilities `[texts, labels]`; loads the selector where it is not in memory."""
        scores: Sequence[Sequence[float]] = self._scorer(selector).score(list(texts)).tolist()
        return scores

    def _scorer(self, selector: ReleaseSelector) -> "LabelScorer":
        if selector.digest not in self._scorers:
            # Loaded first: what works stays, where the new one cannot be loaded.
            self._scorers[selector.digest] = self._load(selector)
            self._on_load()
            if len(self._scorers) > KEPT:
                self._scorers.popitem(last=False)
        self._scorers.move_to_end(selector.digest)
        return self._scorers[selector.digest]

    def _load(self, selector: ReleaseSelector) -> "LabelScorer":
        from shared.model.merge import merged_selector
        from shared.model.scoring import LabelScorer

        model = merged_selector(self._base_folder, self._fetch(selector.digest), self._dtype)
        labels = [parse_label(label) for label in selector.labels]
        return LabelScorer(model, self._tokenizer, labels, self._max_tokens)
