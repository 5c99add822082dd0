"""The rows of one label's task: those to train on, and those to measure on."""

from collections.abc import Sequence
from typing import NamedTuple

from services.trainer.context import TrainingContext, need_outputs
from services.trainer.data.examples import InstructionRow
from services.trainer.data.split import split_by_text
from shared.contracts.jobs import Job
from shared.contracts.rows import Row

VALIDATION_SHARE = 0.2


class TaskRows(NamedTuple):
    """Rows with their answers; no text is on both sides unless the caller's own data sets have it so."""

    train: list[Row]
    validation: list[Row]


def task_rows(
    job: Job, label: str, dataset: str, context: TrainingContext, *, validation: str | None, seed: int
) -> TaskRows:
    """Read a label's rows; where no data set is named for `validation`, a share of them is kept back by `seed`.

    Raises `Invalid` where they are too few or lack answers.
    """
    rows = context.rows(job, dataset, label)
    need_outputs(rows, label)
    if validation:
        return TaskRows(rows, context.rows_of(job, validation, label))
    split = split_by_text(rows, lambda row: row.input, VALIDATION_SHARE, seed)
    return TaskRows(list(split.train), list(split.validation))


def as_training(rows: Sequence[Row]) -> list[InstructionRow]:
    """Rows of a data set as training reads them."""
    return [InstructionRow(row.instruction, row.input, row.output) for row in rows]
