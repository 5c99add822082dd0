"""Names for groups of texts, made of the words that tell them from others."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, Self

from shared.contracts.labels import proposed_label

TERMS = 5
"""Telling n-grams that a group is shown with."""
NAMED_BY = 3
"""Words of a name at most."""
LEAST_SHARE = 0.15
"""Of a group's texts that have an n-gram by which it is named."""
MORE_OFTEN = 5
"""Times that a telling n-gram is as common as among others."""
UNNAMED = "new-task"
"""The name where no letter of the words can be kept."""
_LONGEST = 32
_WORDS = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


class Wording(NamedTuple):
    """The number of texts, and of those that have each word or pair of words."""

    texts: int
    texts_with: Counter[str]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Count texts."""
        return cls(len(texts), _texts_with(texts))


def telling_terms(texts: Sequence[str], everything: Wording) -> list[str]:
    """Return the words and pairs of words that tell texts from the rest of everything, the most telling first.

    An n-gram weighs the number of texts that have it, times its rarity among others (class-based TF-IDF, Grootendorst
    2022). One that is not much more common here, or that shares a word with one before it, is left out.
    """
    others, least = everything.texts - len(texts), max(2, LEAST_SHARE * len(texts))
    weights = {}
    for term, count in _texts_with(texts).items():
        rest = everything.texts_with[term] - count
        if count >= least and count * others > MORE_OFTEN * rest * len(texts):
            weights[term] = count * math.log((1 + others) / (1 + rest))
    found: list[str] = []
    for term in sorted(weights, key=lambda term: (-weights[term], term)):
        if not set(term.split()) & {word for other in found for word in other.split()}:
            found.append(term)
    return found[:TERMS]


def _texts_with(texts: Iterable[str]) -> Counter[str]:
    """The number of texts that have each word or pair of words."""
    found: Counter[str] = Counter()
    for text in texts:
        words = _WORDS.findall(text.casefold())
        found.update({*words, *(f"{one} {other}" for one, other in pairwise(words))})
    return found


def suggested_name(terms: Sequence[str], taken: Collection[str]) -> str:
    """Return a task's name made of the most telling terms, unlike those taken."""
    words: list[str] = []
    for term in terms:
        if len(words) + len(term.split()) <= NAMED_BY:
            words += term.split()
    name = proposed_label("-".join(words)) or UNNAMED
    numbered = (f"{name[: _LONGEST - len(end)]}{end}" for end in ("", *(f"-{at}" for at in range(2, len(taken) + 3))))
    return next(one for one in numbered if one not in taken)
