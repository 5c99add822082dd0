"""Finds the rows of a release's representation set that are most like a text, by the n-grams that they share."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.contracts.generation import Neighbour
from shared.contracts.manifests import Release, ReleaseSelector
from shared.contracts.rows import Row
from shared.errors import SignalboxError
from shared.model.light import FEATURES, Counts, count_features, weigh

log = structlog.get_logger()
SHOWN = 5
LABELS = 5
"""The most probable labels whose rows are looked at."""
ROWS = 100
"""Rows of a label that are looked at, the first ones."""
MAX_CHARS = 300
"""Of a row's text; what is longer is cut."""
_KEPT_SETS = 16
_READ_CHARS = 1_000


class _Seen(NamedTuple):
    """A row as it is compared."""

    text: str
    counts: Counts


class Neighbours:
    """Compares texts with the rows of the last few sets, which stay in memory; any thread may call it."""

    def __init__(
        self,
        get_rows: Callable[[str], Sequence[Row]],
        idf: Callable[[ReleaseSelector], NDArray[np.float32]],
    ) -> None:
        """`idf` returns the weights `[features]` of a selector's n-grams."""

        @lru_cache(maxsize=_KEPT_SETS)
        def rows(key: str) -> list[_Seen]:
            texts = (row.input[:_READ_CHARS] for row in get_rows(key)[:ROWS])
            return [_Seen(text, count_features(text)) for text in texts]

        self._rows = rows
        self._idf = idf

    def near(self, release: Release, text: str, labels: Sequence[str]) -> list[Neighbour]:
        """Return the rows most like the text, the nearest first; none where the store does not answer.

        `labels` are the most probable ones, the best first.
        """
        assert release.selector is not None
        keys = {label: release.representation[label] for label in labels[:LABELS] if label in release.representation}
        try:
            seen = [(label, row) for label, key in keys.items() for row in self._rows(key)]
        except SignalboxError as error:  # a selection does not fail by its explanation
            log.warning("neighbours_not_read", code=error.code, error=error.detail)
            return []
        like = likeness(text[:_READ_CHARS], [row.counts for _, row in seen], self._idf(release.selector))
        best = sorted(range(len(seen)), key=like.__getitem__, reverse=True)[:SHOWN]
        return [
            Neighbour(label=label, text=_cut(row.text), similarity=round(like[at], 3))
            for at, (label, row) in ((at, seen[at]) for at in best)
        ]


def likeness(text: str, rows: Sequence[Counts], idf: NDArray[np.float32]) -> list[float]:
    """Return the cosine of a text's n-grams with those of each row."""
    own = count_features(text)
    weights = weigh(own, idf)
    length = float(np.linalg.norm(weights)) or 1.0
    dense = np.zeros(FEATURES, dtype=np.float32)
    dense[own.features] = weights / length

    def cosine(row: Counts) -> float:
        its = weigh(row, idf)
        return float(dense[row.features] @ its) / (float(np.linalg.norm(its)) or 1.0)

    return [cosine(row) for row in rows]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}…"
