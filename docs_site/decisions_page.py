"""The list of decisions: number, title, and the sentence that decides."""

import re
from pathlib import Path

from docs_site.tables import page, table

_HEAD = """
Why it is built so, a page each: context, one sentence of decision, consequences, alternatives, and the check that
holds it. A number stays with its decision; a later one may replace it and says so.
"""


def decisions_page(root: Path) -> str:
    """Return the page."""
    rows = [_row(file) for file in sorted((root / "docs/decisions").glob("[0-9]*.md"))]
    return page("Decisions", "the pages of this folder", [_HEAD, table(["", "decision"], rows)])


def _row(file: Path) -> tuple[str, str]:
    title = re.sub(r"^#\s*(?:\d+[.:]?\s*)?", "", file.read_text().split("\n", 1)[0])
    return str(int(file.name[:4])), f"[{title}]({file.name})"
