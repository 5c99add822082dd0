"""The rows that a task is trained on: those whose answers fit, with warnings about what they teach."""

from collections.abc import Sequence
from typing import NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.data.report import one_output_warning, several_answers_warning
from services.trainer.data.task_rows import as_training
from shared.contracts.multitask import MultitaskPlan, MultitaskTrain
from shared.contracts.rows import Row
from shared.contracts.training_tasks import AdapterTrain, ComparisonTrain
from shared.errors import Invalid

TaskContext = TrainingContext[AdapterTrain | ComparisonTrain | MultitaskPlan | MultitaskTrain]


class TaughtRows(NamedTuple):
    """Rows to train on, and what is to be said about them before the training."""

    rows: list[Row]
    warnings: list[str]


def taught_rows(context: TaskContext, label: str, dataset: str, rows: Sequence[Row], prefix: str = "") -> TaughtRows:
    """Treat rows whose answers are too long as the job says; raises `Invalid` `answer_too_long`."""
    long = _long_answers(context, rows, prefix)
    if long and context.body.long_answers == "refuse":
        raise _refused(context, dataset, rows[long[0]])
    leaves_out = context.body.long_answers == "leave_out"
    kept = [row for index, row in enumerate(rows) if not (leaves_out and index in long)]
    told = [
        _long_warning(context, label, len(long), len(rows)),
        one_output_warning(label, [row.output for row in kept]),
        several_answers_warning(label, [(row.question, row.output) for row in kept]),
    ]
    warnings = [warning for warning in told if warning]
    if not kept:
        raise Invalid("answer_too_long", f"{warnings[0]}, and no row remains: raise settings.max_length")
    return TaughtRows(kept, warnings)


def _long_answers(context: TaskContext, rows: Sequence[Row], prefix: str) -> list[int]:
    from services.trainer.training.sequences import long_answers

    settings = context.body.settings
    template = context.template(settings.template)
    return long_answers(context.clients.tokenizer, as_training(rows, prefix), template, settings.max_length)


def _refused(context: TaskContext, dataset: str, row: Row) -> Invalid:
    from services.trainer.training.sequences import why_too_long

    settings, (own,) = context.body.settings, as_training([row])
    why = why_too_long(context.clients.tokenizer, own, settings.template, settings.max_length)
    return Invalid("answer_too_long", f"{context.line_of(dataset, row)}: {why}")


def _long_warning(context: TaskContext, label: str, long: int, rows: int) -> str:
    if not long:
        return ""
    what = "their ends are cut off" if context.body.long_answers == "cut" else "these rows are left out"
    return f"{label}: {long} of {rows} answers do not fit into max_length {context.body.settings.max_length}; {what}"
