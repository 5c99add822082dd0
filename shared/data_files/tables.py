"""CSV and TSV with a header line: quoted fields may hold separators and line ends (RFC 4180)."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from shared.data_files.columns import its_names
from shared.data_files.forms import JsonLines, Piece, Unreadable
from shared.data_files.objects import MAX_BYTES, decoded
from shared.data_files.shapes import shape_of

SEPARATORS = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons"}
_UNCLOSED = "a quoted field does not end; close its quote, and double the quotes inside of it"


def table_of(header: bytes, columns: Mapping[str, str]) -> "Table | None":
    """Return the table that a first line begins, None where it is none.

    Raises `Unreadable` where its columns are none that are known, and none are named.
    """
    try:
        text = decoded(header.strip(b"\r\n"))
    except ValueError:
        return None
    names = {separator: _names(text, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda mark: (_is_known(names[mark], columns), len(names[mark])))
    own = names[separator]
    if len(own) < 2 and not _is_known(own, columns):
        return None
    (commonest, count), *_ = Counter(filter(None, own)).most_common(1) or [("", 0)]
    if count > 1:
        raise Unreadable(1, f"two columns are named {commonest[:40]!r}; rename one of them, or leave it out")
    if not _is_known(own, columns):
        missing = sorted(set(columns.values()) - set(own))
        why = f"no column is named {', '.join(map(repr, missing))}" if missing else "no column is known as the input"
        raise Unreadable(
            1, f"{why}; {its_names(own)}: name them by columns (`--columns input=…,output=…`), the header as it stands"
        )
    return Table(separator, own)


def _is_known(names: list[str], columns: Mapping[str, str]) -> bool:
    return set(columns.values()) <= set(names) if columns else shape_of(set(names)) is not None


def _names(header: str, separator: str) -> list[str]:
    """The names of a header; empty where it is not separated so."""
    try:
        return _cells(header, separator)
    except ValueError:
        return []


def _cells(text: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, strict=True), [])]
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}; double the quotes inside of a quoted field") from error


class Table:
    """The records of a table, each a line or several."""

    def __init__(self, separator: str, names: list[str]) -> None:
        self.name = SEPARATORS[separator]
        self._separator, self._names = separator, names
        self._lines = JsonLines()
        self._open: list[bytes] = []
        """The lines of a record whose last field is in quotes that are not closed yet."""
        self._open_bytes = self._open_line = 0
        other = re.escape(separator.encode())
        field = rb'(?:"(?:[^"]++|"")*+"[^%b]*+|(?!")[^%b]*+)' % (other, other)
        self._whole = re.compile(rb"%b(?:%b%b)*+" % (field, other, field), re.DOTALL)
        self._closing = re.compile(rb'(?:[^"]++|"")*+"[^%b]*+(?:%b%b)*+' % (other, other, field), re.DOTALL)

    def feed(self, text: bytes) -> Iterator[Piece]:
        """Yield the records that this text completes, the header left out."""
        for line in self._lines.feed(text):
            yield from self._take(line)

    def end(self) -> Iterator[Piece]:
        """Yield the last record; raises `Unreadable` where it is in quotes still."""
        for line in self._lines.end():
            yield from self._take(line)
        if self._open:
            raise Unreadable(self._open_line, _UNCLOSED)

    def fields(self, raw: bytes) -> dict[str, Any] | None:
        """Read one record, None for one whose fields are all empty; raises `ValueError` with the reason."""
        if len(raw) > MAX_BYTES:
            raise ValueError(f"longer than {MAX_BYTES} bytes; shorten its texts")
        cells = _cells(decoded(raw.rstrip(b"\r\n")), self._separator)
        if not any(cells):
            return None
        if len(cells) != len(self._names):
            raise ValueError(
                f"{len(cells)} fields where the header names {len(self._names)}: put a field that holds "
                f"{self._separator!r} or a line end in double quotes"
            )
        return dict(zip(self._names, cells, strict=True))

    def _take(self, piece: Piece) -> Iterator[Piece]:
        if piece.line == 1:
            return
        line = piece.raw
        if not self._open and b'"' not in line:
            yield piece
        elif (self._closing if self._open else self._whole).fullmatch(line):
            yield Piece(self._open_line if self._open else piece.line, b"".join([*self._open, line]))
            self._open, self._open_bytes = [], 0
        else:
            self._keep_open(piece)

    def _keep_open(self, piece: Piece) -> None:
        self._open_line = self._open_line if self._open else piece.line
        self._open.append(piece.raw)
        self._open_bytes += len(piece.raw)
        if self._open_bytes > MAX_BYTES:
            raise Unreadable(self._open_line, _UNCLOSED)
