"""Train and validation parts that share no input text and stay put when rows are added."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

RowT = TypeVar("RowT")


class Split(NamedTuple, Generic[RowT]):
    """Two disjoint parts, each in the order of the source."""

    train: list[RowT]
    validation: list[RowT]


def split_by_text(
    rows: Sequence[RowT], text_of: Callable[[RowT], str], validation_share: float, seed: int
) -> Split[RowT]:
    """Put all rows of one text (case and white space aside) on one side, chosen by the seeded hash of that text.

    With two different texts or more, neither side is empty.
    """
    places = {same_text(text_of(row)): 0.0 for row in rows}
    places = {text: _place(text, seed) for text in places}
    held_out = {text for text, place in places.items() if place < validation_share}
    if len(places) > 1:
        held_out = held_out or {min(places, key=lambda text: places[text])}
        if len(held_out) == len(places):
            held_out.remove(max(places, key=lambda text: places[text]))
    return Split(
        [row for row in rows if same_text(text_of(row)) not in held_out],
        [row for row in rows if same_text(text_of(row)) in held_out],
    )


def same_text(text: str) -> str:
    """Return what two texts have in common that count as one: white space runs joined, case folded."""
    return " ".join(text.split()).casefold()


def _place(text: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
