"""Data sets: JSON lines of {instruction?, input, output?, label?}, checked line by line before anything is stored."""

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contracts.json_objects import unique_keys
from shared.errors import Invalid

MAX_ERRORS_SHOWN = 5
MAX_NAME_CHARS = 64
MAX_ROWS = 1_000_000
MAX_LINE_BYTES = 2 << 20
"""More than the longest texts take where every character is escaped."""
_NAME = re.compile(rf"[a-z0-9][a-z0-9_.-]{{0,{MAX_NAME_CHARS - 1}}}")

_ARRAY = (
    "line 1: the file is a JSON array; write each of its objects on a line of its own, without brackets and commas"
    " around them (jq -c '.[]' FILE does that)"
)


class Row(BaseModel):
    """One example; each kind of training job checks the fields that it needs."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    input: str = Field(min_length=1, max_length=100_000)
    instruction: str = Field(default="", max_length=20_000)
    output: str = Field(default="", max_length=20_000)
    label: str = Field(default="", max_length=65)


def check_dataset_name(name: str) -> str:
    """Return a well-formed data set name; raises `Invalid` otherwise."""
    if not _NAME.fullmatch(name):
        fitting = re.sub("[^a-z0-9_.]+", "-", name.lower()).strip("-_.")[:MAX_NAME_CHARS] or "rows"
        raise Invalid(
            "name_malformed",
            f"{name!r} is no data set name: 1 to {MAX_NAME_CHARS} of a-z, 0-9, _ . and -, the first a letter or digit;"
            f" take `name={fitting}` (`signalbox datasets add FILE --name {fitting}`)",
        )
    return name


class RowParser:
    """Reads JSON lines piece by piece: memory is that of one piece and one line, whatever the file's size."""

    def __init__(self, *, max_rows: int = MAX_ROWS, check: Callable[[Row], object] | None = None) -> None:
        """`check` may refuse a row by `Invalid`, which then names its line."""
        self.row_count = 0
        self.sha256 = hashlib.sha256()
        """Of all lines that were read; where the file is refused, of those up to the one that decided it."""
        self._max_rows = max_rows
        self._check = check
        self._rest = b""
        self._line = 0
        self._wrong: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Row]:
        """Yield the rows that this piece completes; raises `Invalid` where the file is known to be refused."""
        lines = (self._rest + piece).splitlines(keepends=True)
        self._rest = b"" if not lines or lines[-1].endswith(b"\n") else lines.pop()  # a \r may be half of a line's end
        for line in lines:
            yield from self._read(line)
        if len(self._rest) > MAX_LINE_BYTES:
            yield from self._read(self._rest[: MAX_LINE_BYTES + 1])

    def end(self) -> Iterator[Row]:
        """Yield the row of a last line without an end; raises `Invalid`, which names the first wrong lines."""
        if self._rest:
            yield from self._read(self._rest)
        self._refuse_wrong()
        if not self.row_count:
            raise Invalid("dataset_empty", "the file holds no rows; write one JSON object a line")

    def _read(self, line: bytes) -> Iterator[Row]:
        self._line += 1
        self.sha256.update(line)
        if self._line == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not (line := line.strip()):
            return
        try:
            row = _parse_row(line)
            if self._check:
                self._check(row)
        except (ValueError, Invalid) as error:
            self._note_wrong(line, error)
            return
        self.row_count += 1
        if self.row_count > self._max_rows:
            raise Invalid("dataset_too_large", f"more than {self._max_rows} rows; split the file")
        yield row

    def _note_wrong(self, line: bytes, error: Exception) -> None:
        if not self.row_count and not self._wrong and line.startswith(b"["):
            raise Invalid("dataset_malformed", _ARRAY)
        self._wrong.append(f"line {self._line}: {error}")
        if len(self._wrong) == MAX_ERRORS_SHOWN or len(line) > MAX_LINE_BYTES:
            self._refuse_wrong()

    def _refuse_wrong(self) -> None:
        if self._wrong:
            told = "; ".join(self._wrong)
            raise Invalid("dataset_malformed", f"{told}. Mend these lines and upload the file again.")


def parse_rows(data: bytes, *, max_rows: int = MAX_ROWS) -> list[Row]:
    """Read JSON lines; raises `Invalid`, which names the first wrong lines with reasons."""
    parser = RowParser(max_rows=max_rows)
    return [*parser.feed(data), *parser.end()]


def _parse_row(line: bytes) -> Row:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes; shorten its texts, leave other fields out")
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply; leave such fields out") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    try:
        return Row.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"field {'.'.join(str(x) for x in first['loc'])}: {_reason(value, first)}") from error


def _reason(value: dict[str, Any], error: Mapping[str, Any]) -> str:
    if error["loc"] == ("input",) and error["type"] != "string_type" and value.get("instruction"):
        return "empty; where an instruction is all there is, write it as the input"
    return str(error["msg"])


def dump_rows(rows: Iterable[Row]) -> bytes:
    """Return the canonical bytes of a data set: equal rows give equal bytes, and so the same id."""
    return b"".join(map(dump_row, rows))


def dump_row(row: Row) -> bytes:
    """Return the canonical line of one row."""
    return (json.dumps(row.model_dump(exclude_defaults=True), ensure_ascii=False, sort_keys=True) + "\n").encode()


def dataset_id(data: bytes) -> str:
    """Return `ds_` and the first 24 hex digits of the SHA-256 of the canonical bytes."""
    return id_of_digest(hashlib.sha256(data).hexdigest())


def id_of_digest(sha256: str) -> str:
    """Return the id of a data set by the SHA-256 of its canonical bytes."""
    return f"ds_{sha256[:24]}"
