"""Reads a file of rows on this machine: what it is, what is wrong with it, what it would train."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.local.run_state import current_settings
from shared.contracts.built_in_templates import BASE_TEMPLATE, BUILT_IN, unknown_template
from shared.contracts.templates import OWN
from shared.data_files.preview import Preview
from shared.data_files.reader import RowReader, read_file
from shared.errors import SignalboxError
from shared.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    """Return an empty preview by a template, by default the base model's usual one.

    It counts tokens where the base model is on this machine, else characters, and takes `chatml` for the usual one.
    Raises `Invalid` for an unknown template, or `model` where the base model has none of its own.
    """
    if template and template not in BUILT_IN:
        raise unknown_template(template, list(BUILT_IN))
    settings = current_settings()
    tokenizer = _tokenizer(settings)
    if tokenizer is None:
        by = f"no tokenizer of {settings.base_model} is on this machine"
        return Preview(template or BASE_TEMPLATE, by=by)
    return _in_tokens(template, tokenizer, settings)


def _in_tokens(template: str, tokenizer: "PreTrainedTokenizerBase", settings: Settings) -> Preview:
    from shared.model.tokens import encode_text
    from shared.prompts.bound import BasePrompts

    prompts = BasePrompts(tokenizer, renders_jinja=settings.chat_templates)
    name = template or prompts.usual
    return Preview(
        name,
        segments=prompts.bind(BUILT_IN[OWN]).of_turns if name == OWN else None,
        length=lambda text: len(encode_text(tokenizer, text, allow_special=True)),
        unit="tokens",
        by=f"the tokenizer of {Path(settings.base_model).name}",
        most=MAX_COUNTED,
    )


def _tokenizer(settings: Settings) -> "PreTrainedTokenizerBase | None":
    """The base model's tokenizer; None where none is here. Nothing is downloaded or converted for it."""
    from shared.model.base import load_tokenizer, local_folder

    folder = local_folder(settings)
    try:
        return load_tokenizer(folder) if folder else None
    except (ModuleNotFoundError, SignalboxError):
        return None
