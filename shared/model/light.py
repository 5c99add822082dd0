"""The light selector: a linear model on hashed n-grams of letters and words; it needs neither LLM nor torch."""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from shared.contracts.labels import short_form
from shared.errors import Invalid

Scores = NDArray[np.float32]

BUCKET_BITS = 14
FEATURES = 2 << BUCKET_BITS
"""The buckets for letters, and the same number for words."""
LONGEST_GRAM = 5
_FORMAT = "signalbox-light-1"
_WORDS = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xC2B2AE3D27D4EB4F)


class Counts(NamedTuple):
    """The features of a text in ascending order, and their counts."""

    features: NDArray[np.int64]
    counts: NDArray[np.float32]


def count_features(text: str) -> Counts:
    """Hash the n-grams of a text: 2 to 5 letters of any script, words and pairs of words; ignores case and spacing."""
    words = _WORDS.findall(text.casefold())
    letters = np.frombuffer(f" {' '.join(text.casefold().split())} ".encode("utf-32-le"), dtype=np.uint32)
    features = np.concatenate([*_letter_buckets(letters), _word_buckets(words)])
    found, counts = np.unique(features, return_counts=True)
    return Counts(found, counts.astype(np.float32))


def _letter_buckets(letters: NDArray[np.uint32]) -> Iterator[NDArray[np.int64]]:
    codes = letters.astype(np.uint64)
    rolling = codes * _MIX
    for length in range(2, min(LONGEST_GRAM, len(codes)) + 1):
        rolling = rolling[:-1] * _MIX + codes[length - 1 :] * _STEP
        rolling ^= rolling >> np.uint64(29)
        yield _buckets(rolling)


def _word_buckets(words: Sequence[str]) -> NDArray[np.int64]:
    single = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    pairs = single[:-1] * _STEP + single[1:]
    return _buckets(np.concatenate([single, pairs])) + (1 << BUCKET_BITS)


def _buckets(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return ((hashes * _MIX) >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)


def weigh(counts: Counts, idf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of each feature of a text: damped counts times `idf`; letters and words each have length 1."""
    weights: NDArray[np.float32] = (1 + np.log(counts.counts)) * idf[counts.features]
    parting = int(np.searchsorted(counts.features, 1 << BUCKET_BITS))
    letters, words = np.linalg.norm(weights[:parting]), np.linalg.norm(weights[parting:])
    weights[:parting] /= letters or 1
    weights[parting:] /= words or 1
    return weights


class LightSelector:
    """Scores every label of a text in a fraction of a millisecond."""

    def __init__(
        self, labels: Sequence[str], idf: NDArray[np.float32], weights: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> None:
        """Take `idf` `[features]`, `weights` `[features, labels]` and `bias` `[labels]`."""
        self.labels = list(labels)
        self.idf = idf
        self._weights = weights
        self._bias = bias

    def in_order(self, labels: Sequence[str]) -> "LightSelector":
        """Return the same selector with its labels in another order."""
        order = [self.labels.index(label) for label in labels]
        return LightSelector(labels, self.idf, np.ascontiguousarray(self._weights[:, order]), self._bias[order])

    def score(self, texts: Sequence[str]) -> Scores:
        """Return `[texts, labels]` float32 log-probabilities."""
        logits = np.stack([self._logits(text) for text in texts]) if texts else np.zeros((0, len(self.labels)))
        shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
        scores: Scores = (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).astype(np.float32)
        return scores

    def _logits(self, text: str) -> NDArray[np.float32]:
        counts = count_features(text)
        logits: NDArray[np.float32] = weigh(counts, self.idf) @ self._weights[counts.features] + self._bias
        return logits

    def save(self, file: Path) -> Path:
        """Write a safetensors file, with weights in half precision, which is exact enough."""
        from safetensors.numpy import save_file

        weights = self._weights.astype(np.float16)
        tensors: dict[str, NDArray[Any]] = {"idf": self.idf, "weights": weights, "bias": self._bias}
        # One metadata entry only: safetensors writes several in any order, and the digest would differ.
        save_file(tensors, file, metadata={_FORMAT: json.dumps(self.labels)})
        return file

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote; raises `Invalid` for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy") as stored:
                known = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name).astype(np.float32) for name in ("idf", "weights", "bias")}
        except (OSError, SafetensorError) as error:
            raise Invalid("selector_invalid", f"{file.name} is not a light selector: {error}") from error
        labels = [short_form(label) for label in json.loads(known.get(_FORMAT, "[]"))]
        shapes = [tensors[name].shape for name in ("idf", "weights", "bias")]
        if not labels or shapes != [(FEATURES,), (FEATURES, len(labels)), (len(labels),)]:
            raise Invalid("selector_invalid", f"{file.name} is not a light selector of this version; train it anew")
        return cls(labels, tensors["idf"], tensors["weights"], tensors["bias"])
