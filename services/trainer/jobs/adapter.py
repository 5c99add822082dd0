"""The job `adapter.train`: one label's rows in, a registered and measured adapter out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.trainer.context import TrainingContext
from services.trainer.cost import announce
from services.trainer.data.answer_choices import answer_constraint
from services.trainer.data.task_rows import as_training, rows_to_count, task_rows
from services.trainer.data.taught_rows import taught_rows
from services.trainer.evaluation.generate import answers_of, exact_match
from services.trainer.evaluation.template_choice import Choice, choose, ranked
from services.trainer.jobs import over
from services.trainer.jobs.check import fitting_templates
from services.trainer.jobs.parts import fetched, parts_of
from services.trainer.step_log import StepLog
from shared.adapter_files import BaseShapes, check_adapter, check_planned
from shared.contracts.constraints import Constraint
from shared.contracts.manifests import AdapterManifest
from shared.contracts.rows import Row
from shared.contracts.training_cost import Work, work_of
from shared.contracts.training_tasks import REPEATED_FIELDS, AdapterTrain
from shared.errors import Invalid
from shared.registry.parts import FoundPart

AdapterContext = TrainingContext[AdapterTrain]
CHECKED_ROWS = 4
"""Validation rows by which a new adapter is looked at under other templates than its own."""


def train_adapter(context: AdapterContext) -> dict[str, Any]:
    """Train, measure against the base model on rows not trained on, store and register (paper, section 3.2)."""
    body = context.body
    check_planned(body.settings, BaseShapes.from_folder(context.clients.base_folder), context.clients.adapter_limits)
    below = parts_of(context)
    train, validation = task_rows(context, body.label, body.dataset, body.validation)
    train, warnings = taught_rows(context, body.label, body.dataset, train)
    warnings = [*over.warnings(body.label, below), *warnings]
    if warnings:
        context.report("data_checked", warnings=warnings)
    constraint = answer_constraint(body.constrain, [row.output for row in train])
    context = context.settled()
    read = validation[: body.evaluate_rows]
    announce(context, _work(context, train, read, answers=2 + 2 * len(below)))
    steps = StepLog(context)
    made = over.composed(context, below, _fit(context, train, steps, below))
    scores = _compare_with_base(context, made, read)
    if warning := scores.get("template_check", {}).get("warning"):
        warnings = [*warnings, warning]
    manifest = _register(context, made, train, scores, constraint) if scores.get("published", True) else None
    return {
        "adapter": manifest.digest if manifest else "",
        "ref": manifest.ref if manifest else "",
        "label": body.label,
        "train_rows": len(train),
        "precision": context.body.settings.precision,
        "constraint": constraint.given if constraint else None,
        **scores,
        **steps.as_result(),
        "warnings": warnings,
    }


def _work(context: AdapterContext, train: Sequence[Row], read: Sequence[Row], answers: int) -> Work:
    """The work of training, and of answering the rows so many times: by the base model, by the adapter, by parts."""
    trained, judged = rows_to_count(train), rows_to_count(read)
    return work_of(context.body.settings, trained, judged._replace(number=answers * judged.number))


def _fit(context: AdapterContext, train: Sequence[Row], steps: StepLog, below: Sequence[FoundPart]) -> Path:
    from services.trainer.training import lora
    from services.trainer.training.sequences import RowRefused

    clients, folder = context.clients, context.folder()
    try:
        return lora.train_adapter(
            clients.base_folder,
            clients.tokenizer,
            as_training(train),
            config=context.body.settings,
            work_dir=folder,
            callbacks=steps.beside(context.callbacks()),
            resume_from=context.resume_from(folder),
            launcher=clients.training_launcher,
            cut_answers=context.body.long_answers == "cut",
            template=context.template(context.body.settings.template),
            on=fetched(context, below)[0].folder if below else None,
        )
    except RowRefused as error:
        where = context.line_of(context.body.dataset, train[error.number - 1])
        raise Invalid(error.code, f"{where}: {error.reason}") from error


def _compare_with_base(context: AdapterContext, made: over.Trained, rows: Sequence[Row]) -> dict[str, Any]:
    """Exact match of the adapter and of the base model without it, on the same rows; of parts and their sum, more."""
    context.check()
    context.report("evaluating")
    if not rows:
        return over.facts(made)
    matches, adapted = over.measured(context, made, rows) if made.below else _matches(context, made.folder, rows)
    return {
        "validation_rows": len(rows),
        **matches,
        "template_check": _template_check(context, adapted, rows[:CHECKED_ROWS]),
        **(_validation_loss(context, adapted, rows) if context.body.fine_tuning else {}),
    }


def _matches(context: AdapterContext, adapter: Path, rows: Sequence[Row]) -> tuple[dict[str, Any], Any]:
    """Measure base model and adapter; returns also the model with the adapter."""
    from services.trainer.training.base import load_base
    from shared.model.merge import with_adapter

    def score(model: Any) -> float:
        return round(exact_match(answers_of(context, model, rows), as_training(rows)), 4)

    model = load_base(context.clients.base_folder, context.body.settings)
    base_match, adapted = score(model), with_adapter(model, adapter)
    return {"base_exact_match": base_match, "adapter_exact_match": score(adapted)}, adapted


def _validation_loss(context: AdapterContext, model: Any, rows: Sequence[Row]) -> dict[str, float]:
    """The mean loss of the rows' answers, where OpenAI's format has a place for it."""
    from services.trainer.evaluation.template_scores import Scored

    settings = context.body.settings
    scored = Scored(model, context.clients.tokenizer, as_training(rows), max_length=settings.max_length)
    (score,) = scored.scores({settings.template: context.template(settings.template)}, answers=False)
    return {"validation_loss": round(score.loss, 4)}


def _template_check(context: AdapterContext, model: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """Whether the adapter expects right answers most under the template of its training, as it should."""
    from services.trainer.evaluation.template_scores import Scored

    settings = context.body.settings
    scored = Scored(model, context.clients.tokenizer, as_training(rows), max_length=settings.max_length)
    scores = scored.scores(fitting_templates(context), answers=False)
    choice = choose(scores)
    return {
        "verdict": choice.verdict,
        "best": list(choice.best.names),
        "scores": [score.as_result() for score in ranked(scores)],
        "warning": "" if choice.allows(settings.template) else _surprise(choice, settings.template),
    }


def _surprise(choice: Choice, template: str) -> str:
    if choice.verdict == "no_better_than_base":
        return choice.warning
    return (
        f"trained under template {template!r}, it has learnt more of the answers under {'/'.join(choice.best.names)}: "
        "train longer, or on more rows"
    )


def _register(
    context: AdapterContext,
    made: over.Trained,
    train: Sequence[Row],
    scores: dict[str, Any],
    constraint: Constraint | None,
) -> AdapterManifest:
    body, clients = context.body, context.clients
    info = check_adapter(made.folder, BaseShapes.from_folder(clients.base_folder), clients.adapter_limits)
    manifest = AdapterManifest(
        tenant_id=context.job.tenant_id,
        label=body.label,
        version=0,
        digest="",
        base_model=clients.base_model,
        template=body.settings.template,
        instruction=body.instruction or commonest_instruction(train),
        constraint=constraint,
        info=asdict(info),
        report={
            "dataset": body.dataset,
            "train_rows": len(train),
            # What trains it again on another base model; the ledger forgets the job.
            "training": {name: context.job.body[name] for name in REPEATED_FIELDS if name in context.job.body},
            **scores,
        },
        made_by=context.job.id,
        parts=over.stored_parts(context, made),
    )
    return context.registry.adapters.add(made.folder, manifest)


def commonest_instruction(rows: Sequence[Row]) -> str:
    """The instruction of most rows, for requests without one."""
    return Counter(row.instruction for row in rows).most_common(1)[0][0]
