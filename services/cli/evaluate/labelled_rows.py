"""Rows from files and folders, for `signalbox evaluate` and `signalbox run-reference`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.labels import parse_label
from shared.contracts.rows import Row
from shared.data_files.reader import Found, RowReader, read_file
from shared.errors import Invalid

_ROWS = (".jsonl", ".ndjson", ".csv", ".tsv")
_PACKED = ("", ".gz", ".zst")


class LabelledRow(NamedTuple):
    """A row and the label that it belongs to."""

    label: str
    row: Row


def read_labelled(paths: Iterable[Path]) -> list[LabelledRow]:
    """Rows of files of any form that the reader knows, and of folders with such files.

    A row's label is its `label` field, else its `domain` and `task`, else the first two dotted parts of the file's
    name; raises `Invalid` if there is none of these.
    """
    return [labelled for path in paths for file in _files(path) for labelled in _read(file)]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        ends = tuple(f"{form}{packed}" for form in _ROWS for packed in _PACKED)
        yield from sorted(p for p in path.iterdir() if p.name.endswith(ends))
    else:
        yield path


def read_plain(file: Path) -> list[Row]:
    """Rows of one file, labelled or not; raises `Invalid` that names the wrong lines."""
    return [found.row for found in _found(file)]


def _found(file: Path) -> Iterator[Found]:
    try:
        yield from read_file(file, RowReader(check_labels=False))
    except Invalid as error:
        raise Invalid(error.code, f"{file.name}: {error.detail}") from error


def _read(file: Path) -> Iterator[LabelledRow]:
    for found in _found(file):
        yield LabelledRow(_label(found.row, found.fields, file), found.row)


def _label(row: Row, more: Mapping[str, Any], file: Path) -> str:
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
