"""Training and validation rows that share no text, in a split that stays the same when rows are added."""

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
    """Put all rows of a text (up to case and white space) on one side, chosen by the seeded hash of that text.

    With two or more different texts, neither side is empty.
    """
    hashes = {text: _unit_hash(text, seed) for text in {same_text(text_of(row)): None for row in rows}}
    held_out = {text for text, value in hashes.items() if value < validation_share}
    if len(hashes) > 1:
        held_out = held_out or {min(hashes, key=hashes.__getitem__)}
        if len(held_out) == len(hashes):
            held_out.remove(max(hashes, key=hashes.__getitem__))
    return Split(
        [row for row in rows if same_text(text_of(row)) not in held_out],
        [row for row in rows if same_text(text_of(row)) in held_out],
    )


def same_text(text: str) -> str:
    """Return the normal form of a text, equal for texts that count as the same: white space joined, case folded."""
    return " ".join(text.split()).casefold()


def _unit_hash(text: str, seed: int) -> float:
    """The hash of a text and a seed, between 0 and 1."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
