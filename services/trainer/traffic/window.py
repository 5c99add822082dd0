"""What requests show of themselves: those of a window, and those that a release is compared by."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from services.trainer.traffic.projection import Projection, fit_projection
from shared.contracts.generation import SelectionResult
from shared.contracts.judged import MAX_TEXT_CHARS, JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.selection import is_disputed
from shared.contracts.traffic import TrafficRow
from shared.errors import Invalid
from shared.model.features import Floats

LEAST_FIRST = 1000
"""Requests of first windows from which they are the reference; fewer say too little about rare labels."""


class Request(NamedTuple):
    """One request as its selector saw it."""

    text: str
    label: str
    """The best label, also where the text was rejected."""
    probability: float
    confidence: float
    is_rejected: bool = False
    is_disputed: bool = False

    @classmethod
    def of(cls, text: str, selection: SelectionResult) -> Self | None:
        """Read a kept selection; None where its caller named the label, or no selector has seen the text."""
        label, probability = selection.best_label, selection.probability
        if selection.by == "named" or label is None or probability is None:
            return None
        confidence = probability if selection.confidence is None else selection.confidence
        disputed = is_disputed(ambiguous=selection.ambiguous, by=selection.by)
        return cls(text, label, probability, confidence, selection.rejected, disputed)

    @classmethod
    def logged(cls, row: TrafficRow) -> Self | None:
        """Read a row of the log, of its text as much as judged rows keep; None as for `of`."""
        if row.by == "named" or not row.best_label or row.probability is None:
            return None
        confidence = row.probability if row.confidence is None else row.confidence
        return cls(row.text[:MAX_TEXT_CHARS], row.best_label, row.probability, confidence, row.rejected, row.disputed)

    @classmethod
    def judged(cls, row: JudgedRow, threshold: float) -> Self:
        """Read a row that a release was judged on; whether its selector's parts were at odds is not kept."""
        is_rejected = row.route(threshold) == BACKGROUND
        return cls(row.text, row.best_label, row.probability, row.confidence, is_rejected)


@dataclass(frozen=True, slots=True)
class Window:
    """Requests, column by column."""

    texts: tuple[str, ...]
    labels: NDArray[np.str_]
    probability: NDArray[np.float64]
    confidence: NDArray[np.float64]
    is_rejected: NDArray[np.bool_]
    is_disputed: NDArray[np.bool_]
    vectors: Floats
    """`[requests, hidden]` of the texts, by whatever reads all windows of a release."""

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.texts)

    def rows(self, chosen: NDArray[np.int64] | slice) -> "Window":
        """Return the chosen requests."""
        texts = np.array(self.texts, dtype=object)[chosen].tolist()
        return Window(tuple(texts), *(getattr(self, field.name)[chosen] for field in fields(self)[1:]))


def window_of(requests: Sequence[Request | None], vectors: Floats) -> Window:
    """Return the requests as a window, without those whose label was named (None), which say nothing of the selector.

    Raises `Invalid` where there is not one vector for each request.
    """
    if len(requests) != len(vectors):
        raise Invalid("vectors_missing", f"{len(requests)} requests have {len(vectors)} vectors: give one for each")
    kept = [(row, request) for row, request in enumerate(requests) if request is not None]
    columns = list(zip(*(request for _, request in kept), strict=True)) or [()] * len(Request._fields)
    texts, labels, probability, confidence, is_rejected, is_disputed = columns
    return Window(
        texts,
        np.array(labels, dtype=np.str_),
        np.array(probability, dtype=np.float64),
        np.array(confidence, dtype=np.float64),
        np.array(is_rejected, dtype=np.bool_),
        np.array(is_disputed, dtype=np.bool_),
        np.asarray(vectors, dtype=np.float32)[[row for row, _ in kept]],
    )


def joined(windows: Sequence[Window]) -> Window:
    """Return the requests of all windows, of which there is one at least."""
    texts = tuple(text for window in windows for text in window.texts)
    columns = (np.concatenate([getattr(one, field.name) for one in windows]) for field in fields(Window)[1:])
    return Window(texts, *columns)


@dataclass(frozen=True)
class Reference:
    """What a release's windows are compared with.

    The projection comes from other requests than those compared: seen from a projection fitted on one of two samples,
    equal samples differ.
    """

    basis: Window
    """Requests that the projection of vectors is fitted on."""
    requests: Window
    """Requests that windows are compared with."""

    @cached_property
    def projection(self) -> Projection:
        """The directions in which texts differ, fitted once."""
        return fit_projection(self.basis.vectors)


def reference_of(validation: Window, first: Sequence[Window]) -> Reference:
    """Return the reference of a release: its first windows, seen through its validation rows.

    Where the first windows have fewer than `LEAST_FIRST` requests, half of the validation rows stand in for them; the
    mix of labels is then theirs, which may not be that of any traffic.
    """
    if sum(map(len, first)) >= LEAST_FIRST:
        return Reference(validation, joined(first))
    return Reference(validation.rows(slice(0, None, 2)), validation.rows(slice(1, None, 2)))
