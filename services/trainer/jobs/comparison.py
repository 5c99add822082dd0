"""The job `comparison.train`: one model trained on all labels at once, measured label by label, and not kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.context import TrainingContext
from services.trainer.data.task_rows import TaskRows, as_training, task_rows
from services.trainer.evaluation.answers import exact_matches, task_kinds
from services.trainer.evaluation.exact_match import answers_of
from shared.contracts.jobs import Job
from shared.contracts.training import ComparisonTrain
from shared.worker.leases import HeldJob

if TYPE_CHECKING:
    from services.trainer.evaluation.text_scores import TextScorer


def train_comparison(job: Job, held: HeldJob, body: ComparisonTrain, context: TrainingContext) -> dict[str, Any]:
    """Train a comparison model and judge its answers to each label's rows by the task's own measure (section 4.2)."""
    from services.trainer.training import lora

    tasks = {label: _rows(job, body, label, context) for label in body.labels}
    scorers = _scorers(body, tasks, context)  # what is missing is told before the training
    measured = {label: rows.validation[: body.evaluate_rows] for label, rows in tasks.items()}
    folder = context.folder(job)
    weights = lora.train_together(
        context.base_folder,
        context.tokenizer,
        [as_training(rows.train) for rows in tasks.values()],
        config=body.settings,
        work_dir=folder,
        experts=_experts(body),
        callbacks=context.callbacks(job, held, body.kind),
        resume_from=context.resume_from(job, folder),
        launcher=context.training_launcher,
    )
    held.check()
    context.report(job, "evaluating")
    model = _loaded(weights, body, context)
    found = {label: answers_of(model, rows, body.settings, held, context) for label, rows in measured.items()}
    expected = {label: [row.output for row in rows] for label, rows in measured.items()}
    scores = {label: _mean(scorers[label].score(found[label], expected[label])) for label in tasks}
    return {
        "model": body.model,
        "train_rows": {label: len(rows.train) for label, rows in tasks.items()},
        "validation_rows": {label: len(rows) for label, rows in measured.items()},
        "exact_match": {label: _mean(exact_matches(found[label], expected[label])) for label in tasks},
        "measure": {label: scorer.name for label, scorer in scorers.items()},
        "score": scores,
        "mean_score": _mean(list(scores.values())),
    }


def _rows(job: Job, body: ComparisonTrain, label: str, context: TrainingContext) -> TaskRows:
    return task_rows(
        job,
        label,
        body.labels[label],
        context,
        validation=body.evaluation.get(label),
        seed=body.settings.seed,
    )


def _scorers(body: ComparisonTrain, tasks: Mapping[str, TaskRows], context: TrainingContext) -> dict[str, "TextScorer"]:
    """What judges each label's answers; raises `Invalid` where a package for that is missing."""
    from services.trainer.evaluation.text_scores import scorers_of

    kinds = task_kinds(
        {label: [row.output for row in rows.train] for label, rows in tasks.items()}, body.classification
    )
    return scorers_of(kinds, context.encoder_folder)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(len(values), 1), 4)


def _experts(body: ComparisonTrain) -> Any:
    from services.trainer.training.run import Experts

    return Experts(body.experts, body.experts_used) if body.model == "moe-lora" else None


def _loaded(weights: Path, body: ComparisonTrain, context: TrainingContext) -> Any:
    """The base model, as it is stored, with what was trained."""
    from services.trainer.training.moe_lora import load_experts, with_experts
    from shared.model.base import load_model
    from shared.model.merge import with_adapter

    base = load_model(context.base_folder, "float32")
    if body.model == "multi-task-lora":
        return with_adapter(base, weights)
    return load_experts(with_experts(base, body.settings, body.experts, body.experts_used), weights)
