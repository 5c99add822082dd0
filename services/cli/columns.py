"""Fits a table into the width of a terminal: shortens its widest cells, then leaves its last columns out."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

GAP = "  "
LEAST = 12
"""Characters of a column that is shortened; narrower ones would say nothing."""
_WHOLE = {"id": 40}
"""Columns that are copied into the next command, with the characters up to which they are never shortened."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?(?:Z|\+00:00)")


class Fitted(NamedTuple):
    """The lines of a table, all cells of a column equally wide, and what they lack."""

    lines: list[list[str]]
    left_out: list[str]
    """Columns for which there is no room."""
    is_shortened: bool
    """Whether a cell lacks a part."""


def fit(lines: Sequence[Sequence[str]], width: int) -> Fitted:
    """Fit a table, whose first line names the columns, into a width in characters; times lose seconds and zone."""
    head, *rows = lines
    rows = [[_TIME.sub(r"\1 \2", cell) for cell in row] for row in rows]
    lines = [head, *rows]
    natural = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    least = [min(wide, _WHOLE.get(name, LEAST)) for name, wide in zip(head, natural, strict=True)]
    count = len(head)
    while count > 1 and _total(least[:count]) > width:
        count -= 1
    widths = _shrunk(natural[:count], least[:count], width)
    return Fitted(
        [[_cut(*one) for one in zip(line, widths, strict=False)] for line in lines],
        list(head[count:]),
        widths != natural[:count],
    )


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _shrunk(widths: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Take character by character from the widest column that has any to give."""
    widths = list(widths)
    while _total(widths) > width:
        given = [wide if wide > low else 0 for wide, low in zip(widths, least, strict=True)]
        if not any(given):
            break
        widths[given.index(max(given))] -= 1
    return widths


def _cut(cell: str, width: int) -> str:
    """Shorten a sentence at its end, and a name in the middle: names differ at both ends."""
    if cell_len(cell) <= width:
        return set_cell_size(cell, width)
    if " " in cell:
        return f"{set_cell_size(cell, width - 1)}…"
    end = (width - 1) // 2
    kept = cell[-end:]
    while cell_len(kept) > end:
        kept = kept[1:]
    return f"{set_cell_size(cell, width - 1 - cell_len(kept))}…{kept}"
