"""The job `comparison.train`: one model trained on all labels at once, measured label by label, and not kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.context import TrainingContext
from services.trainer.cost import announce
from services.trainer.data.task_rows import TaskRows, as_training, rows_to_count, task_rows
from services.trainer.data.taught_rows import taught_rows
from services.trainer.evaluation.answers import exact_matches, task_kinds
from services.trainer.evaluation.generate import answers_of
from shared.contracts.rows import Row
from shared.contracts.training_cost import Work, together, work_of
from shared.contracts.training_tasks import ComparisonTrain

if TYPE_CHECKING:
    from services.trainer.evaluation.text_scores import TextScorer

ComparisonContext = TrainingContext[ComparisonTrain]


def train_comparison(context: ComparisonContext) -> dict[str, Any]:
    """Train a comparison model and judge its answers to each label's rows by the task's own measure (section 4.2)."""
    tasks, warnings = _taught(context, _tasks(context))
    scorers = _scorers(context, tasks)  # before the training: a package may be missing
    validation = {label: rows.validation[: context.body.evaluate_rows] for label, rows in tasks.items()}
    context = context.settled()
    announce(context, _work(context, tasks, validation))
    weights = _fit(context, tasks)
    answers = _answers(context, weights, validation)
    return {
        "model": context.body.model,
        "precision": context.body.settings.precision,
        "train_rows": {label: len(rows.train) for label, rows in tasks.items()},
        "validation_rows": {label: len(rows) for label, rows in validation.items()},
        **_scores(answers, validation, scorers),
        "warnings": warnings,
    }


def _tasks(context: ComparisonContext) -> dict[str, TaskRows]:
    body = context.body
    return {
        label: task_rows(context, label, dataset, body.evaluation.get(label)) for label, dataset in body.labels.items()
    }


def _taught(context: ComparisonContext, tasks: Mapping[str, TaskRows]) -> tuple[dict[str, TaskRows], list[str]]:
    """The tasks with the rows that can be trained on, and warnings about them; these are published at once."""
    body = context.body
    taught = {label: taught_rows(context, label, body.labels[label], own.train) for label, own in tasks.items()}
    warnings = [warning for own in taught.values() for warning in own.warnings]
    if warnings:
        context.report("data_checked", warnings=warnings)
    return {label: tasks[label]._replace(train=own.rows) for label, own in taught.items()}, warnings


def _work(context: ComparisonContext, tasks: Mapping[str, TaskRows], validation: Mapping[str, Sequence[Row]]) -> Work:
    trained = together(rows_to_count(rows.train) for rows in tasks.values())
    return work_of(context.body.settings, trained, together(map(rows_to_count, validation.values())))


def _scorers(context: ComparisonContext, tasks: Mapping[str, TaskRows]) -> dict[str, "TextScorer"]:
    """The scorer of each label's answers; raises `Invalid` where a scorer's package is missing."""
    from services.trainer.evaluation.text_scores import scorers_of

    outputs = {label: [row.output for row in rows.train] for label, rows in tasks.items()}
    return scorers_of(task_kinds(outputs, context.body.classification), context.clients.encoder_folder)


def _fit(context: ComparisonContext, tasks: Mapping[str, TaskRows]) -> Path:
    from services.trainer.training import lora
    from services.trainer.training.run import Experts

    body, clients, folder = context.body, context.clients, context.folder()
    return lora.train_together(
        clients.base_folder,
        clients.tokenizer,
        [as_training(rows.train) for rows in tasks.values()],
        config=body.settings,
        work_dir=folder,
        experts=Experts(body.experts, body.experts_used) if body.has_experts else None,
        callbacks=context.callbacks(),
        resume_from=context.resume_from(folder),
        launcher=clients.training_launcher,
        cut_answers=body.long_answers == "cut",
        template=context.template(body.settings.template),
    )


def _answers(
    context: ComparisonContext, weights: Path, validation: Mapping[str, Sequence[Row]]
) -> dict[str, list[str]]:
    context.check()
    context.report("evaluating")
    model = _load(context, weights)
    return {label: answers_of(context, model, rows) for label, rows in validation.items()}


def _load(context: ComparisonContext, weights: Path) -> Any:
    """The base model as it was trained on, with the trained weights."""
    from services.trainer.training.base import load_base
    from services.trainer.training.moe_lora import load_experts, with_experts
    from shared.model.merge import with_adapter

    body = context.body
    base = load_base(context.clients.base_folder, body.settings)
    if not body.has_experts:
        return with_adapter(base, weights)
    experts = load_experts(with_experts(base, body.settings, body.experts, body.experts_used), weights)
    return experts.to(base.dtype)


def _scores(
    answers: Mapping[str, Sequence[str]], validation: Mapping[str, Sequence[Row]], scorers: Mapping[str, "TextScorer"]
) -> dict[str, Any]:
    expected = {label: [row.output for row in rows] for label, rows in validation.items()}
    scores = {label: _mean(scorers[label].score(answers[label], expected[label])) for label in answers}
    return {
        "exact_match": {label: _mean(exact_matches(answers[label], expected[label])) for label in answers},
        "measure": {label: scorer.name for label, scorer in scorers.items()},
        "score": scores,
        "mean_score": _mean(list(scores.values())),
    }


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(len(values), 1), 4)
