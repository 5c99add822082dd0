"""Rows from files and folders, for `signalbox evaluate` and `signalbox run-reference`."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.rows import Row
from shared.data_files.reader import Found, RowReader, read_file
from shared.errors import Invalid

_ROWS = (".jsonl", ".ndjson", ".csv", ".tsv")
_PACKED = ("", ".gz", ".zst")
_SHOWN = 20
"""Labels that one sentence names."""


class LabelledRow(NamedTuple):
    """A row and the label that it belongs to."""

    label: str
    row: Row


def read_labelled(paths: Iterable[Path], label: str = "") -> list[LabelledRow]:
    """Rows of files of any form that the reader knows, and of folders with such files.

    A row's label is its `label` field, else its `domain` and `task`, else `label`, else the first two dotted parts of
    the file's name; raises `Invalid` if there is none of these.
    """
    return [labelled for path in paths for file in _files(path) for labelled in _read(file, label)]


def known_rows(rows: Iterable[LabelledRow], labels: Collection[str]) -> tuple[list[LabelledRow], dict[str, int]]:
    """Return the rows of these labels and of the background, and the number of the other rows by their label.

    Raises `Invalid` where no row is of these labels: nothing can be measured on the others.
    """
    known, unknown = [], Counter[str]()
    for row in rows:
        if row.label in labels or row.label == BACKGROUND:
            known.append(row)
        else:
            unknown[row.label] += 1
    if unknown and not known:
        raise Invalid("label_unknown", unknown_labels(unknown, labels))
    return known, dict(sorted(unknown.items()))


def unknown_labels(unknown: Mapping[str, int], labels: Iterable[str]) -> str:
    """Say which labels of the rows a selector does not know, and what would be taken."""
    counts = _some([f"{label} ({rows} {'row' if rows == 1 else 'rows'})" for label, rows in unknown.items()])
    return (
        f"the release's selector does not know {counts}; it knows {_some(sorted(set(labels) - {BACKGROUND}))}. A row "
        "without a label has that of its file's name: --label LABEL names another one"
    )


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


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


def _read(file: Path, label: str) -> Iterator[LabelledRow]:
    for found in _found(file):
        yield LabelledRow(_label(found.row, found.fields, file, label), found.row)


def _label(row: Row, more: Mapping[str, Any], file: Path, others: str) -> str:
    if row.label:
        return str(parse_label(row.label))
    if "domain" in more and "task" in more:
        return str(parse_label(f"{more['domain']}.{more['task']}"))
    if others:
        return others
    parts = file.name.split(".")
    if len(parts) < 3:  # domain.task.jsonl at least
        raise Invalid(
            "label_missing",
            f"{file.name}: add a label field to its rows, name the file domain.task.jsonl, or give `evaluate selector` "
            "or `evaluate system` the option --label",
        )
    return str(parse_label(".".join(parts[:2])))
