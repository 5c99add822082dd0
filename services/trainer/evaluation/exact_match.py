"""How well a model answers rows that it was not trained on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.trainer.context import TrainingContext
from services.trainer.data.task_rows import as_training
from shared.contracts.rows import Row
from shared.contracts.training import LoraSettings
from shared.worker.leases import HeldJob

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def answers_of(
    model: "PreTrainedModel", rows: Sequence[Row], settings: LoraSettings, held: HeldJob, context: TrainingContext
) -> list[str]:
    """The greedy answer to each row; raises as `held.check` where the job must end."""
    from services.trainer.evaluation.generate import answer_rows

    answers = answer_rows(
        model,
        context.tokenizer,
        as_training(rows),
        template=settings.template,
        max_tokens=settings.max_length,
        should_stop=lambda: held.must_stop,
    )
    held.check()
    return answers


def exact_match_of(
    model: "PreTrainedModel", rows: Sequence[Row], settings: LoraSettings, held: HeldJob, context: TrainingContext
) -> float:
    """The share of rows whose greedy answer is the expected one; 0 for no rows."""
    from services.trainer.evaluation.generate import exact_match

    return round(exact_match(answers_of(model, rows, settings, held, context), as_training(rows)), 4)
