"""What the built site points at: pages and anchors that have to be there, and no other host for what it loads."""

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
_LOADING = {"stylesheet", "preconnect", "preload", "prefetch", "dns-prefetch", "icon", "manifest", "modulepreload"}
_FOREIGN_CSS = re.compile(r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"](?:https?:)?//")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.paragraphs: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in _LOADED and given.get(_LOADED[tag]):
            self.loaded.append(given[_LOADED[tag]])
        if tag == "link" and _LOADING & set(given.get("rel", "").split()):
            self.loaded.append(given.get("href", ""))


def broken(site: Path) -> Iterator[str]:
    """A line for each link that leads nowhere, and for each thing that would come from another host."""

    @cache
    def read(file: Path) -> _Page:
        return _Page(file.read_text())

    for file in sorted(site.rglob("*.html")):
        at = file.relative_to(site)
        # The page of a missing page is served at any address: its links begin at the site's root.
        page = read(file)
        for target in [] if at.name == "404.html" else page.links + page.loaded:
            if why := _fault(file, target, read):
                yield f"{at}: {target}: {why}"
        yield from (f"{at}: loads {target}" for target in page.loaded if urlsplit(target).netloc)
    for file in sorted(site.rglob("*.css")):
        if _FOREIGN_CSS.search(file.read_text()):
            yield f"{file.relative_to(site)}: loads from another host"


def _fault(file: Path, target: str, read: "object") -> str:
    where = urlsplit(target)
    if where.scheme or where.netloc:
        return ""
    found = (file.parent / unquote(where.path)).resolve() if where.path else file
    found = found / "index.html" if found.is_dir() else found
    if not found.is_file():
        return "there is no such file"
    if where.fragment and found.suffix == ".html" and unquote(where.fragment) not in read(found).ids:  # type: ignore[operator]
        return "the page has no such place"
    return ""
