"""Constraints compiled on the vocabulary of an engine's tokenizer, whose matchers say which tokens may come next."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from llguidance import LLMatcher, LLTokenizer

from shared.constraints.program import fault, matcher
from shared.contracts.constraints import Constraint
from shared.errors import Invalid

KEPT = 64
"""Compiled constraints that are kept; those used last."""


class Matchers:
    """Compiles constraints in the threads that ask, never in the engine's own; called by any thread."""

    def __init__(self, make_tokenizer: Callable[[], LLTokenizer]) -> None:
        self._make_tokenizer = make_tokenizer  # it takes seconds for a large vocabulary, so not before it is needed
        self._tokenizer: LLTokenizer | None = None
        self._making = threading.Lock()  # guards the tokenizer
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()  # guards the kept ones

    def of(self, constraint: Constraint) -> LLMatcher:
        """Return a matcher at its beginning; raises `Invalid` where the constraint fits no text or this vocabulary."""
        with self._lock:
            known = self._kept.get(constraint.digest)
            if known is not None:
                self._kept.move_to_end(constraint.digest)
                return known.deep_copy()
        made = self._compiled(constraint)
        with self._lock:
            self._kept[constraint.digest] = made
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return made.deep_copy()

    def _compiled(self, constraint: Constraint) -> LLMatcher:
        with self._making:
            if self._tokenizer is None:
                self._tokenizer = self._make_tokenizer()
        made = matcher(self._tokenizer, constraint.kind, constraint.given[constraint.kind])
        if why := fault(made):
            raise Invalid("constraint_invalid", f"params.constraint.{constraint.kind}: {why}; correct it")
        return made
