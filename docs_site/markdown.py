"""Links and anchors of a page in Markdown, as GitHub reads them."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"^ *(```|~~~)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_HEADING = re.compile(r"(#{1,6}) +(.+?) *#*")
_ID = re.compile(r'<a id="([^"]+)">')


class Link(NamedTuple):
    """A link, and the line in which it stands."""

    line: int
    target: str


def links(text: str) -> Iterator[Link]:
    """Every link and picture that is not code."""
    for number, line in prose(text):
        shown = _CODE.sub("", line)
        for _, label, target in LINK.findall(shown):
            yield Link(number, target)
            yield from (Link(number, inner) for _, _, inner in LINK.findall(label))


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines outside of code blocks."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.search(line)
        if found:
            fence = "" if fence == found[1] else fence or found[1]
        elif not fence:
            yield number, line


def anchors(text: str) -> set[str]:
    """The anchors of headings and of `<a id>`."""
    seen: Counter[str] = Counter()
    found = set(_ID.findall(text))
    for _, line in prose(text):
        if heading := _HEADING.fullmatch(line):
            slug = slug_of(heading[2])
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def slug_of(heading: str) -> str:
    """The anchor of a heading."""
    words = LINK.sub(lambda link: link[2], heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
