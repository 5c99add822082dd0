"""What the characters of a text are: letters by script, and the units (words or characters) that it is compared by."""

import re
import unicodedata
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
SCRIPTS = ("latin", "han", "kana", "hangul", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "thai", "other")
_SPACE, _SIGN, _DIGIT, _FIRST = 0, 1, 2, 3
_PLANE = 1 << 16
_NAMED = {
    "LATIN": "latin",
    "MASCULINE": "latin",  # the small raised letters of 1º and 1ª
    "FEMININE": "latin",
    "CJK": "han",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "HALFWIDTH": "kana",
    "HANGUL": "hangul",
    "CYRILLIC": "cyrillic",
    "GREEK": "greek",
    "ARABIC": "arabic",
    "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari",
    "THAI": "thai",
}
_RANGES = ((0x3400, 0x4DC0, "han"), (0x4E00, 0xA000, "han"), (0xAC00, 0xD7A4, "hangul"))
"""Where every character is a letter: looking each up would take a second."""
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = ("han", "kana", "thai")
_UNSPACED_SHARE = 0.3
"""Of the letters: from here on a text is compared by its characters."""


class Letters(NamedTuple):
    """Counts of a text's characters."""

    by_script: dict[str, int]
    """Without scripts that have none."""
    number: int
    """The letters of all scripts, marks on them included."""
    signs: int
    """Punctuation and symbols; neither digits nor spaces, since numbers are content."""

    @property
    def share(self) -> float:
        """Letters among the letters and signs."""
        return self.number / max(self.number + self.signs, 1)

    @property
    def has_words(self) -> bool:
        """Whether spaces part words here."""
        return sum(self.by_script.get(script, 0) for script in _UNSPACED) < _UNSPACED_SHARE * max(self.number, 1)


def letters_of(text: str) -> Letters:
    """Count the letters of a text."""
    try:
        western = text.encode("cp1252")
    except UnicodeEncodeError:
        kinds = _kinds()[np.minimum(_points(text), _PLANE)]
        counts = np.bincount(kinds, minlength=_FIRST + len(SCRIPTS)).tolist()
        found = {script: count for script, count in zip(SCRIPTS, counts[_FIRST:], strict=True) if count}
        return Letters(found, sum(found.values()), counts[_SIGN])
    latin, signs = (len(western) - len(western.translate(None, these)) for these in _western())
    return Letters({"latin": latin} if latin else {}, latin, signs)


def units_of(text: str, *, has_words: bool) -> Hashes:
    """Return a number for each word of a text, or for each of its characters; equal in every process.

    Case, punctuation and spaces make no difference.
    """
    folded = text.casefold()
    if has_words:
        words = _WORD.findall(folded)
        return np.fromiter((zlib.crc32(word.encode()) for word in words), np.uint64, len(words))
    points = _points(folded)
    return points[_kinds()[np.minimum(points, _PLANE)] >= _FIRST].astype(np.uint64)


def runs_of(units: Hashes, length: int) -> Hashes:
    """Return a 64-bit hash of each run of so many units; of all of them together where there are fewer."""
    length = min(length, len(units))
    runs = np.zeros(len(units) - length + 1 if length else 0, np.uint64)
    for place in range(length):
        runs = _mixed(runs ^ units[place : place + len(runs)])
    return runs


def _mixed(values: Hashes) -> Hashes:
    """SplitMix64's finaliser: every bit of a value changes half of the bits of its hash."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@cache
def _western() -> tuple[bytes, bytes]:
    """The bytes of cp1252 that are letters, and those that are signs: most texts need no table of all characters."""
    kinds = {byte: _kind(sign) for byte in range(256) if (sign := bytes([byte]).decode("cp1252", "ignore"))}
    return bytes(b for b, kind in kinds.items() if kind >= _FIRST), bytes(b for b, k in kinds.items() if k == _SIGN)


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of every character of the first plane, and one for all others: most of those that occur are Han."""
    kinds = np.full(_PLANE + 1, _SIGN, np.uint8)
    for begin, end, script in _RANGES:
        kinds[begin:end] = _FIRST + SCRIPTS.index(script)
    for point in np.flatnonzero(kinds == _SIGN).tolist()[:-1]:
        kinds[point] = _kind(chr(point))
    kinds[_PLANE] = _FIRST + SCRIPTS.index("han")
    return kinds


def _kind(sign: str) -> int:
    category = unicodedata.category(sign)
    if category[0] == "Z" or sign in "\t\n\r\f\v":
        return _SPACE
    if category[0] == "N":
        return _DIGIT
    if category[0] != "L" and category not in ("Mn", "Mc"):
        return _SIGN
    script = _NAMED.get(unicodedata.name(sign, "").split(" ", 1)[0].split("-", 1)[0], "other")
    return _FIRST + SCRIPTS.index(script)
