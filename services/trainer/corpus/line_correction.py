"""The second module: what is mended in the lines of a document. Numbers, notes and articles of laws are content."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from shared.contracts.corpus_clean import LineCorrection

_EDGE = 3
"""Lines at the top and at the bottom of a page that may be its header or footer."""
_LEAST_PAGES, _SHARE_OF_PAGES = 3, 0.4
"""Headers may stand on every other page."""
_NUMBER = re.compile(r"\d+")
_CONTENT = re.compile(
    r"\W*(?:art(?:[íi]culo|icle|\b)|cap[íi]tulo|chapter|secci[óo]n|section|t[íi]tulo|title|libro|book|anexo|annex|"
    r"cl[áa]usula|clause|fracci[óo]n|transitori|§|第.{1,8}[条條章节節款项項编編]).*",
    re.IGNORECASE,
)
"""What numbers its content: such a line is no header, however often it stands at an edge."""
_MANY_LINES = re.compile(r"\n{3,}")
_HYPHEN = re.compile(r"(\w*[^\W\d_])[-\u2010\u00ad]\n[^\S\n]*([^\W\d_]+)")
_NEWLINES = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_KEPT = "\n\t\u200c\u200d"
"""Beside marks of direction: joiners are letters' neighbours in Persian and in Indic scripts."""

Keys = frozenset[tuple[str, int, int]]
NO_KEYS: Keys = frozenset()
NO_CHANGES: Mapping[str, int] = {}


def corrected(text: str, settings: LineCorrection, page_lines: Keys, page: int) -> tuple[str, Mapping[str, int]]:
    """Mend a document; returns it with the number of changes by kind.

    `page_lines` are those of `repeated_edges`, `page` the document's own page.
    """
    changes: dict[str, int] = {}
    is_plain = text.replace("\n", "").isprintable()  # nothing but letters, signs and ordinary spaces
    if not is_plain:
        text = _NEWLINES.sub("\n", text)
    if settings.page_lines and page_lines:
        text = _without_page_lines(text, page_lines, page, changes)
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text, changes["composed letters"] = unicodedata.normalize("NFC", text), 1
    if settings.hyphens and ("-\n" in text or "\u00ad" in text or "\u2010\n" in text):
        text = _joined(text, changes)
    if not is_plain:
        text = _without_controls(text, changes)
    return _spaced(text, is_plain=is_plain), changes


def repeated_edges(pages: Iterable[str]) -> Keys:
    """Return what names the headers, footers and page numbers of a file's pages, in their order."""
    counts: Counter[tuple[str, int, int]] = Counter()
    number = 0
    for number, page in enumerate(pages, 1):
        counts.update({key for line in _edges(page) for key in _keys(line, number)})
    least = max(_LEAST_PAGES, _SHARE_OF_PAGES * number)
    return frozenset(key for key, count in counts.items() if count >= least)


def _edges(page: str) -> list[str]:
    lines = [line.strip() for line in page.split("\n") if line.strip()]
    return lines[:_EDGE] + lines[_EDGE:][-_EDGE:]


def _keys(line: str, page: int) -> Iterator[tuple[str, int, int]]:
    """Yield what a header is known by: the line itself, or the line with a number that goes with the page's."""
    if _CONTENT.fullmatch(line):
        return
    yield line, -1, 0
    for place, number in enumerate(_NUMBER.finditer(line)):
        if len(number.group()) <= 6:
            rest = f"{line[: number.start()]}#{line[number.end() :]}"
            yield rest, place, int(number.group()) - page


def _without_page_lines(text: str, known: Keys, page: int, changes: dict[str, int]) -> str:
    lines = text.split("\n")
    full = [place for place, line in enumerate(lines) if line.strip()]
    edges = full[:_EDGE] + full[_EDGE:][-_EDGE:]
    gone = {place for place in edges if known.intersection(_keys(lines[place].strip(), page))}
    if gone:
        changes["page lines"] = len(gone)
    return "\n".join(line for place, line in enumerate(lines) if place not in gone)


def _joined(text: str, changes: dict[str, int]) -> str:
    """Join words that a line's end parts; what is written with its hyphen elsewhere in the text keeps it."""
    inside = text.casefold()

    def join(found: re.Match[str]) -> str:
        first, second = found.groups()
        if not _goes_on(second):
            return found.group()
        changes["hyphens"] = changes.get("hyphens", 0) + 1
        written = f"{first}-{second}"
        return f"{written}\n" if written.casefold() in inside else f"{first}{second}\n"

    # What follows the joined word begins the next line, as what was before it ended one.
    return _HYPHEN.sub(join, text).replace("\n ", "\n").replace("\u00ad", "")


def _goes_on(second: str) -> bool:
    return second[0].islower()


def _without_controls(text: str, changes: dict[str, int]) -> str:
    cleaned = text.translate(_controls())
    if len(cleaned) != len(text):
        changes["control characters"] = len(text) - len(cleaned)
    return cleaned


@cache
def _controls() -> Mapping[int, None]:
    others = "\u00ad\u200b\u2060\ufeff\ufffe\uffff"
    controls = (chr(point) for point in range(0xA0) if unicodedata.category(chr(point)) == "Cc")
    private = map(chr, range(0xD800, 0xE000))  # halves of pairs, which no UTF-8 can hold
    return {ord(sign): None for sign in (*controls, *others, *private) if sign not in _KEPT}


def _spaced(text: str, *, is_plain: bool) -> str:
    text = text.strip()
    if is_plain and not any(spaces in text for spaces in ("  ", " \n", "\n ", "\n\n\n")):
        return text
    text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    return _MANY_LINES.sub("\n\n", text) if "\n\n\n" in text else text
