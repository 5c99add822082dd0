"""The rows of one label's task: those to train on, and those to measure on."""

from collections.abc import Sequence
from typing import NamedTuple

from services.trainer.context import AnyContext
from services.trainer.data.examples import InstructionRow
from services.trainer.data.split import split_by_text
from shared.contracts.conversation import prefixed
from shared.contracts.rows import Row
from shared.contracts.training_cost import Rows as CountedRows
from shared.contracts.training_tasks import VALIDATION_SHARE
from shared.errors import Invalid


class TaskRows(NamedTuple):
    """Rows with their answers; no text is on both sides unless two data sets of the caller share it."""

    train: list[Row]
    validation: list[Row]


def task_rows(context: AnyContext, label: str, dataset: str, validation: str | None) -> TaskRows:
    """Read a label's rows; where no data set is named for `validation`, a share of the rows is held out by the seed.

    Raises `Invalid` where there are too few rows, or rows without an answer.
    """
    rows = context.rows(dataset, label)
    _check_outputs(rows, label)
    if validation:
        return TaskRows(rows, context.rows_of(validation, label))
    split = split_by_text(rows, lambda row: row.input, VALIDATION_SHARE, context.body.settings.seed)
    return TaskRows(list(split.train), list(split.validation))


def as_training(rows: Sequence[Row], prefix: str = "") -> list[InstructionRow]:
    """The rows of a data set in the form that training takes, with their task's prefix before each prompt."""
    return [_prefixed(InstructionRow(row.instruction, row.input, row.output, row.messages), prefix) for row in rows]


def _prefixed(row: InstructionRow, prefix: str) -> InstructionRow:
    turns = row.turns
    if turns and turns[0].role == "system":
        turns = (turns[0].model_copy(update={"content": prefixed(prefix, turns[0].content)}), *turns[1:])
    return row._replace(instruction=prefixed(prefix, row.instruction), turns=turns)


def rows_to_count(rows: Sequence[Row]) -> CountedRows:
    """Count rows whose whole text a model reads."""
    return CountedRows.of([row.text for row in rows])


def _check_outputs(rows: Sequence[Row], label: str) -> None:
    """Raise `Invalid` where rows have no output: they would teach nothing."""
    lacking = sum(not row.output for row in rows)
    if lacking:
        raise Invalid("output_missing", f"{label}: {lacking} of {len(rows)} rows have no output; add it or drop them")
