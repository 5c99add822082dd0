"""Data sets: JSON lines of {instruction?, input, output?, label?}, checked line by line before anything is stored."""

import hashlib
import json
import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import Invalid

MAX_ERRORS_SHOWN = 5
MAX_NAME_CHARS = 64
_NAME = re.compile(rf"[a-z0-9][a-z0-9_.-]{{0,{MAX_NAME_CHARS - 1}}}")


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
        raise Invalid("name_malformed", f"{name!r} is no data set name: 1 to {MAX_NAME_CHARS} of a-z, 0-9, _ . and -")
    return name


def parse_rows(data: bytes, *, max_rows: int = 1_000_000) -> list[Row]:
    """Read JSON lines; raises `Invalid`, which names the first wrong lines with reasons."""
    rows: list[Row] = []
    wrong: list[str] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(_parse_row(line))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
            if len(wrong) == MAX_ERRORS_SHOWN:
                break
    if wrong:
        raise Invalid("dataset_malformed", "; ".join(wrong) + ". Mend these lines and upload the file again.")
    if not rows:
        raise Invalid("dataset_empty", "the file holds no rows; write one JSON object a line")
    if len(rows) > max_rows:
        raise Invalid("dataset_too_large", f"{len(rows)} rows, at most {max_rows} are taken; split the file")
    return rows


def _parse_row(line: bytes) -> Row:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    try:
        return Row.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"field {'.'.join(str(x) for x in first['loc'])}: {first['msg']}") from error


def dump_rows(rows: Iterable[Row]) -> bytes:
    """Return the canonical bytes of a data set: equal rows give equal bytes, and so the same id."""
    lines = (json.dumps(row.model_dump(exclude_defaults=True), ensure_ascii=False, sort_keys=True) for row in rows)
    return ("\n".join(lines) + "\n").encode()


def dataset_id(data: bytes) -> str:
    """Return `ds_` and the first 24 hex digits of the SHA-256 of the canonical bytes."""
    return f"ds_{hashlib.sha256(data).hexdigest()[:24]}"
