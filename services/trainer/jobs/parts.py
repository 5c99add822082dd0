"""The adapters that a job builds on: found once for all its attempts, made one, and measured beside the outcome."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from services.trainer.context import AnyContext, TrainingContext
from services.trainer.evaluation.arms import Arm, Measures, Role
from services.trainer.evaluation.generate import answers_of
from shared.adapter_files import BaseShapes
from shared.contracts.rows import Row
from shared.registry.adapters import check_same_base
from shared.registry.parts import Composing, FoundPart, check_ranks, find_parts, named_parts, with_names

if TYPE_CHECKING:
    from peft import PeftModel

    from services.trainer.training.compose import Part

SLOT_RANKS = 8
"""Ranks that a memory slot of our engine holds."""


class Measured(NamedTuple):
    """An arm before it is measured; the base model has no folder."""

    name: str
    role: Role
    folder: Path | None = None


def parts_of(context: TrainingContext[Composing]) -> list[FoundPart]:
    """Return the adapters that a job builds on, of this trainer's base model, and within the limits together.

    A label without a version means the version that is newest as the first attempt begins. Raises `NotFound`,
    `Invalid`.
    """
    body, clients, tenant_id = context.body, context.clients, context.job.tenant_id
    if not named_parts(body):
        return []

    def names() -> dict[str, Any]:
        return {"names": [one.part.name for one in find_parts(context.registry, tenant_id, body)]}

    pinned = body.model_copy(update=with_names(body, context.checkpoints().once("parts", names)["names"]))
    found = find_parts(context.registry, tenant_id, pinned)
    for one in found:
        check_same_base(one.manifest, clients.base_model)
    check_ranks(body, found, BaseShapes.from_folder(clients.base_folder), clients.adapter_limits)
    return found


def fetched(context: AnyContext, found: Sequence[FoundPart]) -> "list[Part]":
    """Return the parts' folders with their weights."""
    from services.trainer.training.compose import Part

    return [Part(context.registry.weights.fetch(one.part.digest), one.part.weight) for one in found]


def measure(
    context: AnyContext, arms: Sequence[Measured], rows: Sequence[Row], measures: Measures
) -> "tuple[list[Arm], PeftModel]":
    """Measure every arm on the same rows, once for all attempts; returns them, and the model with the last one active.

    Each answers the rows by the job's template, and one is loaded after the other into one base model.
    """
    from services.trainer.training.base import load_base
    from shared.model.merge import with_adapter

    model: Any = load_base(context.clients.base_folder, context.body.settings)
    for number, arm in enumerate(arms):
        if arm.folder:
            model = with_adapter(model, arm.folder, f"arm{number}")
    expected = [row.output for row in rows]

    def scores(number: int, arm: Measured) -> dict[str, Any]:
        if arm.folder:
            model.set_adapter(f"arm{number}", inference_mode=True)
        with nullcontext() if arm.folder else model.disable_adapter():
            answers = answers_of(context, model, rows)
        return {name: scorer.score(answers, expected) for name, scorer in measures.scorers.items()}

    found = []
    for number, arm in enumerate(arms):
        context.check()
        context.report("evaluating", arm=arm.name)
        stored = context.checkpoints().once(f"arm-{number}", lambda number=number, arm=arm: scores(number, arm))  # type: ignore[misc]
        found.append(Arm(arm.name, arm.role, stored))
    model.set_adapter(f"arm{len(arms) - 1}", inference_mode=True)
    return found, model


def rows_with_answers(rows: Sequence[Row], most: int) -> list[Row]:
    """Return the first rows that an answer can be compared with."""
    return [row for row in rows if row.output][:most]


def slots_of(rank: int) -> int:
    """Return how many memory slots of our engine an adapter takes."""
    return -(-rank // SLOT_RANKS)
