"""What an import is of: PEFT folders, folders of such, and the lines of tables that name them."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.adapter_files import CONFIG_NAME
from shared.contracts.labels import check_adapter_label, check_name, proposed_label
from shared.errors import Invalid

_SHOWN = 10
_CHECKPOINT = re.compile(r"checkpoint-\d+")


class Entry(NamedTuple):
    """One adapter to import; what is empty is left to the system."""

    label: str
    """Empty where none can be proposed for the folder: then this adapter alone is not imported."""
    folder: Path
    template: str = ""
    instruction: str = ""
    base_model: str = ""
    """The pin of its base model."""
    group: str = ""
    """In the release; by default the label's domain."""


_COLUMNS = Entry._fields


def read_entries(sources: Sequence[Path], template: str = "", base_model: str = "") -> list[Entry]:
    """List the adapters of folders and tables; `template` and `base_model` are for entries that name none.

    Raises `Invalid` where a source holds none, where a line is wrong, and where two adapters would have one label.
    """
    read = (entry for source in sources for entry in (_of_folder(source) if source.is_dir() else _of_table(source)))
    found = list(dict.fromkeys(read))
    _check_apart(found)
    return [
        entry._replace(template=entry.template or template, base_model=entry.base_model or base_model)
        for entry in found
    ]


def holds_adapter(folder: Path) -> bool:
    """Whether a folder is one of PEFT's, or a model's folder in a hub cache."""
    return (folder / CONFIG_NAME).is_file() or (folder / "refs" / "main").is_file()


def _of_folder(folder: Path) -> Iterator[Entry]:
    if holds_adapter(folder):
        yield Entry(_proposed(folder), folder.resolve())
        return
    inside = sorted((one for one in folder.iterdir() if _is_listed(one)), key=_in_natural_order)
    if not inside:
        raise Invalid(
            "adapters_missing", f"{folder} is no PEFT folder and holds none: name one with {CONFIG_NAME} in it"
        )
    if all(_CHECKPOINT.fullmatch(one.name) for one in inside):
        raise Invalid(
            "adapters_missing", f"{folder} holds checkpoints of one training: name one of them, such as {inside[-1]}"
        )
    for one in inside:
        yield Entry(_proposed(one), one.resolve())


def _in_natural_order(folder: Path) -> tuple[tuple[str | int, ...], str]:
    """A key that sorts `skill-2` before `skill-10`."""
    parts = re.split(r"(\d+)", folder.name)  # text and digits by turns
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), folder.name


def _is_listed(folder: Path) -> bool:
    """Whether a folder holds an adapter, if only a folder further down, as the refusal of its upload says then."""
    is_seen = folder.is_dir() and not folder.name.startswith(".")
    return is_seen and (holds_adapter(folder) or any(folder.glob(f"*/{CONFIG_NAME}")))


def _proposed(folder: Path) -> str:
    """The label that a folder's name proposes, or none; that of a hub cache is the model's without its owner."""
    named = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() takes a link's target for the name it was given
    if named.parent.name == "snapshots":
        named = named.parent.parent
    is_cached = named.name.startswith("models--")
    return proposed_label(named.name.rpartition("--")[2] if is_cached else named.name)


def without_label(folder: Path) -> str:
    """Say that a folder has no label, and what to do."""
    return f"no label can be proposed for {folder}: rename it, or write a table with the columns label and folder"


def _of_table(file: Path) -> Iterator[Entry]:
    """The entries of a table: tabs, a header line, folders relative to the table's own."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        try:
            _check_header(file, reader.fieldnames or ())
            lines = [(reader.line_num, row) for row in reader if any(row.values())]
        except (csv.Error, UnicodeDecodeError) as error:
            raise Invalid("import_table_malformed", f"{file.name} is no table in UTF-8 with tabs: {error}") from error
    faults: list[str] = []
    for number, row in lines:
        try:
            yield _of_line(file.parent, row)
        except Invalid as error:
            faults.append(f"line {number}: {error.detail}")
    if faults or not lines:
        raise Invalid("import_table_malformed", f"{file.name}: {_some(faults) or 'it has no line under its header'}")


def _check_header(file: Path, header: Sequence[str]) -> None:
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown or "folder" not in header or len(set(header)) < len(header):
        raise Invalid(
            "import_table_malformed",
            f"{file.name}, line 1: the columns {', '.join(header) or '(none)'} are not taken; name folder, and what "
            f"you need of {', '.join(name for name in _COLUMNS if name != 'folder')}, each once, with tabs between",
        )


def _of_line(beside: Path, row: Mapping[str | None, str | None]) -> Entry:
    if None in row:
        raise Invalid("import_table_malformed", "it has more cells than the header")
    cells = {name: (value or "").strip() for name, value in row.items() if name}
    folder = beside / Path(cells.pop("folder")).expanduser()
    if folder == beside or not folder.is_dir():
        raise Invalid("import_table_malformed", f"{folder} is no folder")
    label = cells.pop("label", "")
    if group := cells.get("group"):
        check_name(group, "group")
    label = check_adapter_label(label) if label else _proposed(folder)
    if not label:
        raise Invalid("import_table_malformed", f"no label can be proposed for {folder}: write it in the column label")
    return Entry(label, folder.resolve(), **cells)


def _check_apart(entries: Iterable[Entry]) -> None:
    """Raise `Invalid` where two adapters would have one label."""
    folders: dict[str, list[Path]] = {}
    for entry in entries:
        folders.setdefault(entry.label, []).append(entry.folder)
    alike = [f"{' and '.join(map(str, own))} ({label})" for label, own in folders.items() if label and len(own) > 1]
    if alike:
        raise Invalid(
            "labels_alike",
            f"these have one label: {_some(alike)}; name labels apart in a table with the columns label and folder",
        )


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more
