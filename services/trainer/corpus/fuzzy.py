"""The fifth module: documents that nearly are another one. MinHash finds candidates, their shingles decide.

Signatures come from rensa; its bands (locality-sensitive hashing, Broder 1997; Leskovec et al., Mining of Massive
Datasets, section 3.4) and the shingles of what was kept lie on disk, so memory has a bound.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from services.trainer.corpus.characters import Hashes, letters_of, runs_of, units_of
from services.trainer.corpus.exact import opened
from shared.contracts.corpus_clean import FuzzyDeduplication

_SEED = 1
_MOST_VALUES = 128
"""Of a signature."""
_MISSED = 0.005
"""Chance that two documents at the threshold share no band."""
_MORE_CHARACTERS = 2
"""A character says less than a word: a shingle of them is longer by so many."""


class Bands(NamedTuple):
    """How a signature is cut: documents that agree in all rows of one band are candidates."""

    number: int
    rows: int

    def chance(self, jaccard: float) -> float:
        """Return the chance that two documents of this Jaccard index are candidates."""
        return 1 - (1 - jaccard**self.rows) ** self.number


def bands_for(threshold: float) -> Bands:
    """Return the bands of most rows, and the fewest of these, that miss one pair in 200 at the threshold."""
    for rows in range(_MOST_VALUES, 0, -1):
        for number in range(1, _MOST_VALUES // rows + 1):
            if (bands := Bands(number, rows)).chance(threshold) >= 1 - _MISSED:
                return bands
    raise ValueError(f"no bands find pairs of a Jaccard index of {threshold}: raise it")


def shingles_of(text: str, length: int) -> Hashes:
    """Return the sorted hashes of a text's shingles: runs of words, or of characters where no spaces part words."""
    has_words = letters_of(text).has_words
    return np.unique(runs_of(units_of(text, has_words=has_words), length + (0 if has_words else _MORE_CHARACTERS)))


def jaccard(first: Hashes, second: Hashes) -> float:
    """Return the Jaccard index of two sorted sets."""
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / max(len(first) + len(second) - both, 1)


def band_keys(sets: Sequence[Hashes], bands: Bands) -> npt.NDArray[np.int64]:
    """Return a key for each band of each set, [sets, bands]; sets are in one band where they share its key."""
    lengths = [len(one) for one in sets]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.uint64)
    flat = np.concatenate(sets) if sets else np.zeros(0, np.uint64)
    found = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, bands.number * bands.rows, _SEED)
    values = np.array(found.to_rows(), np.uint64).reshape(len(sets), bands.number, bands.rows)
    values[:, :, 0] ^= np.arange(bands.number, dtype=np.uint64) << np.uint64(32)  # bands have keys of their own
    keys = [runs_of(row.reshape(-1), bands.rows)[:: bands.rows] for row in values]
    return np.array(keys, np.uint64).view(np.int64).reshape(len(sets), bands.number)


class Near:
    """The documents that were kept, by their bands."""

    def __init__(self, path: Path, settings: FuzzyDeduplication) -> None:
        self._settings = settings
        self._bands = bands_for(settings.threshold)
        self._database = opened(path)
        self._database.execute("CREATE TABLE shingles (document INTEGER PRIMARY KEY, hashes BLOB)")
        self._database.execute(
            "CREATE TABLE bands (key INTEGER, document INTEGER, PRIMARY KEY (key, document)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")
        self._count = 0

    def add(self, texts: Sequence[str], *, is_known_new: bool = False) -> list[int]:
        """Note the texts that are new; returns for each the number of the kept one that it nearly is, -1 for none.

        Kept texts are numbered from 0 on. `is_known_new` asks nothing: an earlier attempt has kept them all.
        """
        found = []
        for hashes, keys in self._signed(texts):
            near = -1 if is_known_new else self._nearest(hashes, keys)
            found.append(near)
            if near < 0:
                self._keep(hashes, keys)
        return found

    def nearest(self, texts: Sequence[str]) -> list[int]:
        """Return for each text the number of the kept one that it nearly is, -1 for none."""
        return [self._nearest(hashes, keys) for hashes, keys in self._signed(texts)]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _signed(self, texts: Sequence[str]) -> Iterator[tuple[Hashes, list[int]]]:
        """Yield the shingles of each text with its keys; none for a text without words, which is near nothing."""
        sets = [shingles_of(text, self._settings.shingle) for text in texts]
        for hashes, keys in zip(sets, band_keys(sets, self._bands).tolist(), strict=True):
            yield hashes, keys if len(hashes) else []

    def _nearest(self, hashes: Hashes, keys: list[int]) -> int:
        """Return the first of the kept documents that is as near as the threshold says; -1 without one."""
        marks = ",".join("?" * len(keys))
        rows = self._database.execute(
            f"SELECT DISTINCT document FROM bands WHERE key IN ({marks}) ORDER BY document",  # noqa: S608 - marks alone
            keys,
        )
        for (document,) in rows.fetchall():
            (kept,) = self._database.execute("SELECT hashes FROM shingles WHERE document = ?", (document,)).fetchone()
            if jaccard(hashes, np.frombuffer(kept, np.uint64)) >= self._settings.threshold:
                return int(document)
        return -1

    def _keep(self, hashes: Hashes, keys: list[int]) -> None:
        self._database.execute("INSERT INTO shingles VALUES (?, ?)", (self._count, hashes.tobytes()))
        rows = [(key, self._count) for key in set(keys)]
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", rows)
        self._count += 1
