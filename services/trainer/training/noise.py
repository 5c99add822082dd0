"""Copies of training texts as users will write them: with typos, and background that shares words with a label.

A linear model that saw only clean rows takes a text by a single word of a label, and is lost where words are misspelt.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.contracts.labels import BACKGROUND

TYPO_SHARE = 0.07
BORROWED_WORDS = (1, 2)
_WORDS = re.compile(r"\w+")

Texts = Mapping[str, Sequence[str]]


def with_noise(texts: Texts, seed: int = 0) -> dict[str, list[str]]:
    """Return the texts by label, background with near misses, and a misspelt copy of each; the same for the same seed.

    Without background rows there are no near misses: only background tells what belongs to no label.
    """
    chance = random.Random(seed)  # noqa: S311
    clean = {label: list(own) for label, own in sorted(texts.items())}
    if BACKGROUND in clean:
        clean[BACKGROUND] += near_misses(clean, chance)
    letters = sorted({char for own in clean.values() for text in own for char in text if char.isalpha()})
    return {label: own + [misspelt(text, letters, chance) for text in own] for label, own in clean.items()}


def misspelt(text: str, letters: Sequence[str], chance: random.Random, share: float = TYPO_SHARE) -> str:
    """Return the text with a share of its letters left out or replaced by others."""

    def typo(char: str) -> str:
        if not char.isalpha() or chance.random() >= share:
            return char
        return chance.choice(["", chance.choice(letters)])

    return "".join(map(typo, text))


def near_misses(texts: Texts, chance: random.Random) -> list[str]:
    """Return each background text with one or two of its words replaced by words that are typical of a label."""
    of_labels = [_WORDS.findall(text) for label, own in texts.items() if label != BACKGROUND for text in own]
    of_labels = [words for words in of_labels if words]
    inside, outside = _rows_with(of_labels), _rows_with(map(_WORDS.findall, texts[BACKGROUND]))
    typical = {word: rows / (1 + outside[word]) for word, rows in inside.items()}

    def borrowed() -> str:
        words = chance.choice(of_labels)
        return chance.choices(words, [typical[word] for word in words])[0]

    return [_replaced(text, borrowed, chance) for text in texts[BACKGROUND]] if of_labels else []


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
