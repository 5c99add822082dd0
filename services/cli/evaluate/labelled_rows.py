"""Rows from files and folders, for `signalbox evaluate` and `signalbox run-reference`."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.labels import parse_label
from shared.contracts.rows import Row, parse_rows
from shared.errors import Invalid


class LabelledRow(NamedTuple):
    """A row and the label that it belongs to."""

    label: str
    row: Row


def read_labelled(paths: Iterable[Path]) -> list[LabelledRow]:
    """Rows of JSON-lines files (gzipped or not) and of folders with such files.

    A row's label is its `label` field, else its `domain` and `task`, else the first two dotted parts of the file's
    name; raises `Invalid` if there is none of these.
    """
    return [labelled for path in paths for file in _files(path) for labelled in _read(file)]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz")))
    else:
        yield path


def read_plain(file: Path) -> list[Row]:
    """Rows of one JSON-lines file (gzipped or not), labelled or not; raises `Invalid` that names the wrong lines."""
    return _parse(file, _content(file))


def _content(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid("file_unreadable", f"{file} cannot be read ({error}): gzip what is named .gz, whole") from error


def _parse(file: Path, raw: bytes) -> list[Row]:
    try:
        return parse_rows(raw)
    except Invalid as error:
        raise Invalid(error.code, f"{file.name}: {error.detail}") from error


def _read(file: Path) -> Iterator[LabelledRow]:
    raw = _content(file)
    rows = _parse(file, raw)
    fields = [json.loads(line) for line in raw.splitlines() if line.strip()]
    for row, more in zip(rows, fields, strict=True):
        yield LabelledRow(_label(row, more, file), row)


def _label(row: Row, more: dict[str, Any], file: Path) -> str:
    if row.label:
        return str(parse_label(row.label))
    if "domain" in more and "task" in more:
        return str(parse_label(f"{more['domain']}.{more['task']}"))
    parts = file.name.split(".")
    if len(parts) < 3:  # domain.task.jsonl at least
        raise Invalid(
            "label_missing", f"{file.name}: add a label field to its rows, or name the file domain.task.jsonl"
        )
    return str(parse_label(".".join(parts[:2])))
