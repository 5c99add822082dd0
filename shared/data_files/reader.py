"""The one reader of rows: any file that people have, piece by piece, whatever its size."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from pydantic import ValidationError

from shared.contracts.rows import MAX_ROWS, Row
from shared.data_files.forms import Form, JsonArray, JsonLines, Piece, Unreadable
from shared.data_files.label_names import LabelNames
from shared.data_files.objects import MAX_BYTES
from shared.data_files.refusals import RowsRefused, Wrong
from shared.data_files.shapes import row_fields
from shared.data_files.tables import Table, table_of
from shared.data_files.texts import TextStream
from shared.data_files.unpack import MAX_UNPACKED_BYTES, PIECE_BYTES
from shared.errors import Invalid

MAX_WRONG = 100
"""Wrong records after which a file is refused, unless a reader is told otherwise."""
_BLANK_BYTES = 64 << 10
_NO_COLUMNS: Mapping[str, str] = MappingProxyType({})


class Found(NamedTuple):
    """A row, the record that it was made of, and the line where that begins."""

    row: Row
    fields: Mapping[str, Any]
    line: int


class RowReader:
    """Reads rows piece by piece: memory is that of one piece and one record."""

    def __init__(
        self,
        columns: Mapping[str, str] = _NO_COLUMNS,
        *,
        accept_labels: bool = False,
        check_labels: bool = True,
        max_rows: int = MAX_ROWS,
        max_wrong: int = MAX_WRONG,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    ) -> None:
        """`columns` names the column or key of each field. Labels are checked, and renamed where that is accepted."""
        self.row_count = 0
        self.sha256 = hashlib.sha256()
        """Of all records that were read; where the file is refused, of those up to the one that decided it."""
        self.names = LabelNames()
        self._columns = columns
        self._accept_labels, self._check_labels = accept_labels, check_labels
        self._max_rows, self._max_wrong = max_rows, max_wrong
        self._texts = TextStream(max_unpacked_bytes)
        self._start = b""
        self._form: Form | None = None
        self._shapes: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._wrong: list[Wrong] = []

    @property
    def format(self) -> str:
        """What the file turned out to be, such as `gzip, JSON lines: alpaca`; known at its end."""
        names = [*self._texts.names, self._form.name if self._form else "empty"]
        if len(self._shapes) > 1:
            shapes = ", ".join(f"{name} ({count})" for name, count in self._shapes.most_common())
        else:
            shapes = "".join(self._shapes)
        return f"{', '.join(names)}: {shapes}"

    @property
    def notes(self) -> list[str]:
        """What was changed on the way, each with the number of its rows."""
        return [f"{count} {'row' if count == 1 else 'rows'}: {what}" for what, count in self._notes.most_common()]

    def feed(self, piece: bytes) -> Iterator[Found]:
        """Yield the rows that this piece completes; raises `Invalid` where the file is known to be refused."""
        for text in self._unpacked(self._texts.feed(piece)):
            yield from self._read(text)

    def end(self) -> Iterator[Found]:
        """Yield the last rows; raises `RowsRefused`, which names the wrong records, and `Invalid` for no rows."""
        for text in self._unpacked(self._texts.end()):
            yield from self._read(text)
        if self._form is None:
            yield from self._read(b"", is_all=True)
        if self._form:
            yield from self._rows(self._form.end())
        if self._wrong or (self.names.renamed and not self._accept_labels):
            self._refuse()
        if not self.row_count:
            raise Invalid("dataset_empty", "the file holds no rows; write one JSON object a line")

    def _unpacked(self, texts: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from texts
        except Invalid as error:
            # How much was read before depends on the pieces: what says why is the same in each.
            self.sha256 = hashlib.sha256(error.detail.encode())
            raise

    def _read(self, text: bytes, *, is_all: bool = False) -> Iterator[Found]:
        if self._form is None:
            self._start += text
            try:
                self._form = self._told(is_all=is_all)
            except Unreadable as error:
                self._end_at(error)
            if self._form is None:
                return
            text, self._start = self._start, b""
        yield from self._rows(self._form.feed(text))

    def _told(self, *, is_all: bool) -> Form | None:
        """The form that the start of the file tells; None where more of it is needed."""
        start = self._start.lstrip()
        if start.startswith(b"{"):
            return JsonLines()
        if start.startswith(b"["):
            return JsonArray()
        if not start:
            return JsonLines() if is_all or len(self._start) > _BLANK_BYTES else None
        line = self._start.splitlines(keepends=True)[0]
        if not (is_all or line.endswith(b"\n") or len(self._start) > len(line) or len(line) > MAX_BYTES):
            return None
        return self._table(line) or JsonLines()

    def _table(self, header: bytes) -> Table | None:
        try:
            table = table_of(header, self._columns)
        except Unreadable:
            self.sha256.update(header)
            raise
        if table:
            self.sha256.update(header)
        return table

    def _rows(self, pieces: Iterable[Piece]) -> Iterator[Found]:
        try:
            for piece in pieces:
                self.sha256.update(piece.raw)
                if found := self._found(piece):
                    yield found
        except Unreadable as error:
            self._end_at(error)

    def _found(self, piece: Piece) -> Found | None:
        assert self._form
        try:
            fields = self._form.fields(piece.raw)
            if fields is None:
                return None
            shape, given = row_fields(fields, self._columns, self._notes)
            if self._check_labels and isinstance(given.get("label"), str):
                given["label"] = self.names.name(given["label"], piece.line)
            row = Row.model_validate(given)
        except (ValueError, Invalid) as error:
            self._note_wrong(Wrong(piece.line, piece.place, _reason(error)), is_last=len(piece.raw) > MAX_BYTES)
            return None
        self._shapes[shape] += 1
        self.row_count += 1
        if self.row_count > self._max_rows:
            raise Invalid("dataset_too_large", f"more than {self._max_rows} rows; split the file")
        return Found(row, fields, piece.line)

    def _note_wrong(self, wrong: Wrong, *, is_last: bool) -> None:
        self._wrong.append(wrong)
        if is_last or len(self._wrong) == self._max_wrong:
            self._refuse()

    def _end_at(self, error: Unreadable) -> None:
        self._note_wrong(Wrong(error.line, f"line {error.line}", str(error)), is_last=True)

    def _refuse(self) -> None:
        renamed = [] if self._accept_labels else self.names.renamed
        raise RowsRefused(self._wrong, len(self._wrong), renamed)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"field {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)


def read_found(reader: RowReader, stream: BinaryIO) -> Iterator[Found]:
    """Yield everything that a reader finds in an open file; raises as the reader does."""
    while piece := stream.read(PIECE_BYTES):
        yield from reader.feed(piece)
    yield from reader.end()


def read_rows(data: bytes, columns: Mapping[str, str] = _NO_COLUMNS, **options: Any) -> list[Row]:
    """Read the rows of a file that is in memory; raises as `RowReader` does."""
    reader = RowReader(columns, **options)
    return [found.row for found in [*reader.feed(data), *reader.end()]]


def read_file(path: Path, reader: RowReader) -> Iterator[Found]:
    """Yield what a reader finds in a file; raises as the reader does, and `Invalid` where it cannot be opened."""
    try:
        with path.open("rb") as stream:
            yield from read_found(reader, stream)
    except OSError as error:
        raise Invalid("file_unreadable", f"{path} cannot be read ({error.strerror}); check the path") from error
