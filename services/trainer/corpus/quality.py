"""The fourth module: a small classifier that tells good texts from damaged and rejected ones.

It is logistic regression on the hashed runs of one to three characters of a text's beginning, so it knows no language.
A fit is deterministic: its texts are those of the smallest digests, and what is damaged depends on them alone.
"""

import base64
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.trainer.corpus.characters import runs_of
from services.trainer.corpus.exact import digest_of

Floats = npt.NDArray[np.float32]
LEAST_TEXTS, MOST_TEXTS = 20, 1000
"""Good texts of a fit: with fewer there is none."""
CHARS = 2000
"""Of a text, those that are looked at."""
_BITS = 15
_HELD_OUT = 5
"""One text in so many measures the fit."""


class Quality(NamedTuple):
    """A fitted classifier."""

    weights: Floats
    bias: float
    right: float
    """Share of held-out texts that it tells apart at a half."""
    texts: int
    """That it was fitted on."""

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """Return the probability that each text is a good one."""
        return [self._probability(text) for text in texts]

    def _probability(self, text: str) -> float:
        places, values = _features(text)
        score = float(np.dot(self.weights[places], values)) + self.bias
        return 1 / (1 + float(np.exp(-np.clip(score, -30, 30))))

    def as_fields(self) -> dict[str, Any]:
        """Return what a job stores of it."""
        weights = base64.b64encode(self.weights.tobytes()).decode()
        return {"weights": weights, "bias": self.bias, "right": self.right, "texts": self.texts}

    @classmethod
    def of_fields(cls, stored: dict[str, Any]) -> "Quality":
        """Read what a job has stored."""
        weights = np.frombuffer(base64.b64decode(stored["weights"]), np.float32)
        return cls(weights, stored["bias"], stored["right"], stored["texts"])


def fit(good: Sequence[str], rejected: Sequence[str]) -> Quality:
    """Fit on good texts, and on rejected and damaged ones; needs `LEAST_TEXTS` good ones."""
    from sklearn.linear_model import LogisticRegression

    bad = [*rejected[: len(good) // 2], *(damaged(text) for text in good)][: len(good)]
    texts, labels = [*good, *bad], np.repeat([1, 0], [len(good), len(bad)])
    held_out = np.arange(len(texts)) % _HELD_OUT == 0
    rows = _matrix(texts)
    model = LogisticRegression(C=100.0, max_iter=500).fit(rows[~held_out], labels[~held_out])
    right = float(model.score(rows[held_out], labels[held_out]))
    return Quality(model.coef_[0].astype(np.float32), float(model.intercept_[0]), right, len(texts))


def damaged(text: str) -> str:
    """Return the text as something that nobody should learn, the same for the same text."""
    chance = random.Random(digest_of(text))  # noqa: S311 - not a secret
    damage: Callable[[str, random.Random], str] = chance.choice([_misread, _shuffled, _garbled, _listed])
    return damage(text[:CHARS], chance)


def _misread(text: str, chance: random.Random) -> str:
    """UTF-8 read as another encoding; where there is nothing but ASCII, letters go astray."""
    return _garbled(text, chance) if text.isascii() else text.encode("utf-8", "ignore").decode("latin-1")


def _shuffled(text: str, chance: random.Random) -> str:
    return "".join(chance.sample(text, len(text)))


def _garbled(text: str, chance: random.Random) -> str:
    """A bad OCR: a quarter of the characters are others."""
    return "".join(chance.choice("|l1I0O~^'`.,;:_*#@%&/\\<>{}[]") if chance.random() < 0.25 else sign for sign in text)


def _listed(text: str, chance: random.Random) -> str:
    """A menu or a log: short pieces between signs and numbers."""
    pieces = [text[start : start + 6].strip() for start in range(0, len(text), 40)]
    return " | ".join(f"{piece} {chance.randrange(10_000)}" for piece in pieces)


def _features(text: str) -> tuple[npt.NDArray[np.int64], Floats]:
    points = np.frombuffer(text[:CHARS].casefold().encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    runs = np.concatenate([runs_of(points, length) for length in (1, 2, 3) if len(points) >= length] or [points])
    places, counts = np.unique(runs >> np.uint64(64 - _BITS), return_counts=True)
    values = np.sqrt(counts, dtype=np.float32)
    return places.astype(np.int64), values / max(float(np.linalg.norm(values)), 1.0)


def _matrix(texts: Sequence[str]) -> Any:
    from scipy.sparse import csr_matrix

    found = [_features(text) for text in texts]
    ends = np.cumsum([0, *(len(places) for places, _ in found)])
    places, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return csr_matrix((values, places, ends), shape=(len(texts), 1 << _BITS))
