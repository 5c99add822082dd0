"""Markdown that GitHub and the site's builder read alike."""

from collections.abc import Iterable, Sequence


def page(title: str, source: str, parts: Iterable[str]) -> str:
    """A whole generated page; `source` says what it is made of."""
    made = f"<!-- Written by `make reference` from {source}: change that, not this page. -->"
    return "\n\n".join([f"# {title}", made, *(part.strip() for part in parts if part.strip())]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are one line each, with bars that end no cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Text that is safe in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Text as code; empty stays empty."""
    return f"`{text}`" if str(text) else ""
