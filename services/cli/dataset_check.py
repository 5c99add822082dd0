"""Reads a file of rows on this machine: what it is, what is wrong with it, what it would train."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.cli.local.run_state import current_settings
from shared.contracts.built_in_templates import BUILT_IN, unknown_template
from shared.data_files.preview import Preview
from shared.data_files.reader import RowReader, read_file
from shared.errors import SignalboxError
from shared.settings import Settings

MAX_WRONG = 100_000
MAX_COUNTED = 10_000
"""Rows whose tokens are counted: their histogram is that of the file, and a second is enough for them."""


def check_file(
    file: Path, columns: Mapping[str, str], *, accept_labels: bool = False, preview: Preview | None = None
) -> dict[str, Any]:
    """Return what a file is; raises `RowsRefused` with every wrong record, and `Invalid`."""
    reader = RowReader(columns, accept_labels=accept_labels, max_wrong=MAX_WRONG)
    labels: Counter[str] = Counter()
    for found in read_file(file, reader):
        labels[found.row.label] += 1
        if preview:
            preview.add(found.row)
    return {
        "format": reader.format,
        "rows": reader.row_count,
        "labels": {label: count for label, count in sorted(labels.items()) if label},
        "notes": reader.notes,
        "renamed_labels": [one.as_fields() for one in reader.names.renamed],
        **(preview.as_fields() if preview else {}),
    }


def preview_of(template: str) -> Preview:
    """Return an empty preview, in tokens where the base model is on this machine, else in characters."""
    if template not in BUILT_IN:
        raise unknown_template(template, list(BUILT_IN))
    settings = current_settings()
    count = _token_counter(settings)
    if count is None:
        return Preview(template, by=f"no tokenizer of {settings.base_model} is on this machine")
    by = f"the tokenizer of {Path(settings.base_model).name}"
    return Preview(template, length=count, unit="tokens", by=by, most=MAX_COUNTED)


def _token_counter(settings: Settings) -> Callable[[str], int] | None:
    """What counts a text's tokens; None where no tokenizer is here. Nothing is downloaded or converted for it."""
    from shared.model.base import load_tokenizer, local_folder
    from shared.model.tokens import encode_text

    folder = local_folder(settings)
    if folder is None:
        return None
    try:
        tokenizer = load_tokenizer(folder)
    except (ModuleNotFoundError, SignalboxError):
        return None
    return lambda text: len(encode_text(tokenizer, text, allow_special=True))
