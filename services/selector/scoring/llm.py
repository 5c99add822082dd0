"""The LLM selector: the selector's LoRA merged into the base weights; one forward pass scores a batch."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from services.selector.scoring.card_memory import card_full
from shared.contracts.labels import parse_label
from shared.contracts.manifests import ReleaseSelector

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from shared.model.merge import BaseWeights
    from shared.model.scoring import Scorer

MAX_IDLE = 2
"""Number of current selectors that stay in memory without a job; each costs the layers that its LoRA changes."""

Key = tuple[str, tuple[str, ...]]
"""Weights and labels: the same weights give other scores for another label list."""


class _Base(NamedTuple):
    """The parts that all selectors of the process share."""

    weights: "BaseWeights"
    tokenizer: "PreTrainedTokenizerBase"


class LlmScorers:
    """Keeps the scorers of selectors: a scorer stays while jobs use it, or while its release is a tenant's current one.

    Only one thread may call `score_many`; any thread may call the other methods. Torch and the base model are loaded
    with the first selector that has a language model.
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
        self._base: _Base | None = None
        self._scorers: OrderedDict[Key, Scorer] = OrderedDict()  # the most recently used one is last
        self._jobs: Counter[Key] = Counter()
        self._current: dict[str, Key] = {}  # by tenant
        self._followed: set[str] = set()
        self._lock = threading.Lock()  # guards the four above

    def make_current(self, tenant_id: str, selector: ReleaseSelector | None) -> None:
        """Note the selector of a tenant's new release; the former one is dropped when its last job ends."""
        with self._lock:
            self._followed.add(tenant_id)
            self._set_current(tenant_id, selector)
        self._drop_unused()

    @contextmanager
    def in_use(self, tenant_id: str, selector: ReleaseSelector | None) -> Iterator[None]:
        """Keep the selector while a job runs; for a tenant that has no watched release, it becomes the current one."""
        key = _key(selector) if selector else ("", ())
        with self._lock:
            self._jobs[key] += 1
            if tenant_id not in self._followed:
                self._set_current(tenant_id, selector)
        try:
            yield
        finally:
            with self._lock:
                self._jobs[key] -= 1
                self._jobs += Counter()  # removes the entries at zero
            self._drop_unused()

    def prefetch(self, selector: ReleaseSelector) -> None:
        """Fetch the weights of a selector to the disk unless it is in memory; any thread may call it.

        Raises `Unavailable` where the store does not answer. The batcher's thread must not wait for the store.
        """
        if selector.llm and _key(selector) not in self._scorers:
            self._fetch(selector.llm)

    def score_many(self, selector: ReleaseSelector, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return log-probabilities `[texts, labels]`; loads the selector where it is not in memory."""
        scores: Sequence[Sequence[float]] = self._scorer(selector).score(list(texts)).tolist()
        return scores

    def _scorer(self, selector: ReleaseSelector) -> "Scorer":
        key = _key(selector)
        scorer = self._scorers.get(key) or self._load_with_room(selector)
        with self._lock:
            self._scorers[key] = scorer
            self._scorers.move_to_end(key)
        return scorer

    def _load_with_room(self, selector: ReleaseSelector) -> "Scorer":
        """Load a selector; where the card has no room, selectors that no job uses make it. Raises `ServiceAway`."""
        scorer = self._load_if_it_fits(selector)
        if scorer is None:
            self._drop_unused(most_idle=0)
            scorer = self._load_if_it_fits(selector)
        if scorer is None:
            raise card_full()
        return scorer

    def _load_if_it_fits(self, selector: ReleaseSelector) -> "Scorer | None":
        from shared.model.memory import is_out_of_memory, return_free_memory

        try:
            return self._load(selector)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return_free_memory()  # not before the error is gone, which holds what was loaded
        return None

    def _load(self, selector: ReleaseSelector) -> "Scorer":
        from shared.model.memory import return_free_memory, separate_mappings
        from shared.model.scoring import load_scorer

        labels = [parse_label(label) for label in selector.labels]
        weights = self._fetch(selector.llm)
        base = self._base = self._base or self._load_base()
        with separate_mappings():
            scorer = load_scorer(
                base.weights.folder, weights, base.tokenizer, labels,
                max_tokens=self._max_tokens, dtype=self._dtype, base=base.weights,
            )  # fmt: skip
        self._on_load()
        return_free_memory()
        return scorer

    def _load_base(self) -> _Base:
        from shared.model.base import load_tokenizer
        from shared.model.merge import BaseWeights

        folder = self._base_folder()
        return _Base(BaseWeights(folder), load_tokenizer(folder))

    def _set_current(self, tenant_id: str, selector: ReleaseSelector | None) -> None:
        self._current.pop(tenant_id, None)
        if selector and selector.llm:
            self._current[tenant_id] = _key(selector)

    def _drop_unused(self, most_idle: int = MAX_IDLE) -> None:
        """Drop scorers that no job uses, unless they are current; of the current ones, keep at most `most_idle`."""
        with self._lock:
            idle = [key for key in self._scorers if not self._jobs[key]]
            current = set(self._current.values())
            spare = [key for key in reversed(idle) if key in current][:most_idle]
            dropped = [self._scorers.pop(key) for key in idle if key not in spare]
        if dropped:
            from shared.model.memory import return_free_memory

            dropped.clear()
            return_free_memory()


def _key(selector: ReleaseSelector) -> Key:
    return selector.llm, selector.labels
