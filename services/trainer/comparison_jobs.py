"""The job `comparison.train`: one model trained on all labels at once, measured label by label, and not kept."""

from pathlib import Path
from typing import Any

from services.trainer.measuring import exact_match_of
from services.trainer.task_rows import TaskRows, as_training, task_rows
from services.trainer.workshop import Workshop
from shared.attempts import Held
from shared.jobs import Job
from shared.training import ComparisonTrain


def train_comparison(job: Job, held: Held, body: ComparisonTrain, workshop: Workshop) -> dict[str, Any]:
    """Train a comparison model and answer the exact match of each label's rows (paper, section 4.2)."""
    from services.trainer.infra import fit

    tasks = {label: _rows(job, body, label, workshop) for label in body.labels}
    measured = {label: rows.validation[: body.evaluate_rows] for label, rows in tasks.items()}
    folder = workshop.folder(job)
    weights = fit.train_together(
        workshop.base_folder,
        workshop.tokenizer,
        [as_training(rows.train) for rows in tasks.values()],
        config=body.settings,
        work_dir=folder,
        experts=_experts(body),
        hooks=workshop.hooks(job, held, body.kind),
        resume_from=workshop.resume_from(job, folder),
    )
    held.check()
    workshop.report(job, "evaluating")
    model = _loaded(weights, body, workshop)
    found = {label: exact_match_of(model, rows, body.settings, held, workshop) for label, rows in measured.items()}
    return {
        "model": body.model,
        "train_rows": {label: len(rows.train) for label, rows in tasks.items()},
        "validation_rows": {label: len(rows) for label, rows in measured.items()},
        "exact_match": found,
        "mean_exact_match": round(sum(found.values()) / len(found), 4),
    }


def _rows(job: Job, body: ComparisonTrain, label: str, workshop: Workshop) -> TaskRows:
    return task_rows(
        job,
        label,
        body.labels[label],
        workshop,
        validation=body.evaluation.get(label),
        seed=body.settings.seed,
    )


def _experts(body: ComparisonTrain) -> Any:
    from services.trainer.infra.fit import Experts

    return Experts(body.experts, body.experts_used) if body.model == "moe-lora" else None


def _loaded(weights: Path, body: ComparisonTrain, workshop: Workshop) -> Any:
    """The base model, as it is stored, with what was trained."""
    from services.trainer.infra.moe_lora import load_experts, with_experts
    from shared.model.base import load_model
    from shared.model.merge import with_adapter

    base = load_model(workshop.base_folder, "float32")
    if body.model == "multi-task-lora":
        return with_adapter(base, weights)
    return load_experts(with_experts(base, body.settings, body.experts, body.experts_used), weights)
