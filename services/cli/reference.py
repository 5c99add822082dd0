"""`signalbox run-reference`: the inference order of section 3.5 in this process, over a release in the registry."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from services.cli.place import current_registry, find_release
from shared.datasets import Row
from shared.errors import Invalid
from shared.settings import Settings

if TYPE_CHECKING:
    from services.trainer.infra.reference import Answer, Reference


def open_reference(settings: Settings, release_id: str = "") -> "Reference":
    """The reference of a release (the current one where none is named), on the base model that it was made for.

    Raises `Conflict` where there is no release, `NotFound`, and `Invalid` where the base model is another one.
    """
    from services.trainer.infra.reference import Reference
    from shared.model.base import base_model_id, resolve_base_model
    from shared.model.processor import limit_threads

    registry = current_registry(settings)
    release = find_release(registry, release_id)
    limit_threads(settings)
    folder = resolve_base_model(settings)
    if base_model_id(folder) != release.base_model:
        raise Invalid(
            "base_model_mismatch",
            f"release {release.id} was made for base model {release.base_model}, and {settings.base_model!r} is "
            f"{base_model_id(folder)}: set SIGNALBOX_BASE_MODEL to the one it was made for, or name another release",
        )
    return Reference(release, registry, folder, max_prompt_tokens=settings.max_prompt_tokens)


def run_reference(reference: "Reference", rows: Iterable[Row], max_new_tokens: int) -> Iterator[dict[str, Any]]:
    """One record per row, in order; a label that a row carries is not looked at."""
    for row in rows:
        yield record(row, reference.answer(row.input, row.instruction, max_new_tokens=max_new_tokens))


def record(row: Row, answer: "Answer") -> dict[str, Any]:
    """An answer as one line of JSON; `label` is null where the text was rejected, `text` where nobody answered."""
    selection, entry = answer.selection, answer.entry
    return {
        "input": row.input,
        "label": selection.label or None,
        "probability": round(selection.best.probability, 6),
        "best_label": selection.best.label,
        "by": selection.by,
        "adapter": entry.adapter if entry else None,
        "adapter_ref": entry.ref if entry else None,
        "text": answer.text,
    }
