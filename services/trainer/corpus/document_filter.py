"""The first module: which documents are none, by rules alone."""

from typing import NamedTuple

from services.trainer.corpus.characters import Letters, letters_of
from shared.contracts.corpus_clean import DocumentFilter

_RUN = {True: 5, False: 10}
"""Words, or characters where no spaces part words: what makes a repetition."""
_LEAST_LINES, _LEAST_RUNS = 4, 20
"""Fewer repeat nothing that counts: the articles of a law begin alike."""
_OF_SCRIPTS = 0.9


class Judged(NamedTuple):
    """What the rules say of a document."""

    reason: str
    """Why it is none; empty for one that stays."""
    liking: float = 0.0
    """How much the rules like it, from 0 to 1."""


def judged(text: str, rules: DocumentFilter) -> Judged:
    """Judge a document by rules."""
    if reason := _by_length(len(text.strip()), rules):
        return Judged(reason)
    letters = letters_of(text)
    return Judged(_by_content(text, letters, rules), letters.share)


def _by_length(length: int, rules: DocumentFilter) -> str:
    if not length:
        return "no text"
    if length < rules.min_chars:
        return "too short"
    return "too long" if length > rules.max_chars else ""


def _by_content(text: str, letters: Letters, rules: DocumentFilter) -> str:
    if letters.share < rules.min_letters:
        return "too few letters"
    if rules.scripts and not _is_of(letters, rules.scripts):
        return "another script"
    if repeated_lines(text) > rules.max_repeated_lines:
        return "repeated lines"
    return "repeated words" if repeats_runs(text, rules.max_repeated_ngrams, has_words=letters.has_words) else ""


def repeated_lines(text: str) -> float:
    """Return the share of a text in lines that stood in it before."""
    if text.count("\n") < _LEAST_LINES - 1:
        return 0.0
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < _LEAST_LINES:
        return 0.0
    distinct = sum(map(len, set(lines)))
    return 1 - distinct / sum(map(len, lines))


def repeats_runs(text: str, most: float, *, has_words: bool) -> bool:
    """Whether more than this share of a text's runs of words, or of characters, stood in it before."""
    units, length = text.split() if has_words else text, _RUN[has_words]
    runs = len(units) - length + 1
    if runs < _LEAST_RUNS:
        return False
    if len(set(units)) - length + 1 >= (1 - most) * runs:
        return False  # a run that ends with a new word is a new run, so there are at least so many
    return 1 - len(set(zip(*(units[start:] for start in range(length)), strict=False))) / runs > most


def _is_of(letters: Letters, scripts: tuple[str, ...]) -> bool:
    return sum(letters.by_script.get(script, 0) for script in scripts) >= _OF_SCRIPTS * letters.number
