"""Copies of training texts as users will write them: with typos, and background that shares words with a label.

A linear model that saw only clean rows takes a text by a single word of a label, and is lost where words are misspelt.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from shared.contracts.labels import BACKGROUND

TYPO_SHARE = 0.05
TYPO_WEIGHT = 0.3
NEAR_MISSES = 3
"""Of each background text; together they weigh as much as it does."""
BORROWED_WORDS = (1, 2)
_WORDS = re.compile(r"\w+")

Texts = Mapping[str, Sequence[str]]


class NoisyRow(NamedTuple):
    """A training text, and how much of a clean row it weighs."""

    label: str
    text: str
    weight: float = 1.0


def with_noise(texts: Texts, seed: int = 0) -> list[NoisyRow]:
    """Return the texts in the order of their labels, then near misses and misspelt copies; the same for the same seed.

    Without background rows there are no near misses: only background tells what belongs to no label.
    """
    chance = random.Random(seed)  # noqa: S311
    clean = [NoisyRow(label, text) for label, own in sorted(texts.items()) for text in own]
    near = [text for _ in range(NEAR_MISSES) for text in near_misses(texts, chance)]
    letters = sorted({char for row in clean for char in row.text if char.isalpha()})
    typos = [NoisyRow(row.label, misspelt(row.text, letters, chance), TYPO_WEIGHT) for row in clean]
    return [*clean, *(NoisyRow(BACKGROUND, text, 1 / NEAR_MISSES) for text in near), *typos]


def misspelt(text: str, letters: Sequence[str], chance: random.Random, share: float = TYPO_SHARE) -> str:
    """Return the text with a share of its letters left out or replaced by others."""

    def typo(char: str) -> str:
        if not char.isalpha() or chance.random() >= share:
            return char
        return chance.choice(["", chance.choice(letters)])

    return "".join(map(typo, text))


def near_misses(texts: Texts, chance: random.Random) -> list[str]:
    """Return each background text with one or two of its words replaced by words that are typical of a label."""
    background = texts.get(BACKGROUND, ())
    of_labels = [_WORDS.findall(text) for label, own in sorted(texts.items()) if label != BACKGROUND for text in own]
    of_labels = [words for words in of_labels if words]
    inside, outside = _rows_with(of_labels), _rows_with(map(_WORDS.findall, background))
    typical = {word: rows / (1 + outside[word]) for word, rows in inside.items()}

    def borrowed() -> str:
        words = chance.choice(of_labels)
        return chance.choices(words, [typical[word] for word in words])[0]

    return [_replaced(text, borrowed, chance) for text in background] if of_labels else []


def _rows_with(rows: Iterable[Sequence[str]]) -> Counter[str]:
    """The number of rows that have each word."""
    return Counter(word for words in rows for word in set(words))


def _replaced(text: str, borrowed: Callable[[], str], chance: random.Random) -> str:
    """The text with words replaced, one of its own at least being left."""
    places = list(_WORDS.finditer(text))
    count = min(chance.choice(BORROWED_WORDS), max(len(places) - 1, 0))
    for place in sorted(chance.sample(places, count), key=lambda place: -place.start()):
        text = text[: place.start()] + borrowed() + text[place.end() :]
    return text
