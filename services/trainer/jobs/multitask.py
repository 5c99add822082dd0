"""The job `multitask.train`: several labels' rows in, one adapter out that each of them has a version of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from services.trainer.context import TrainingContext
from services.trainer.cost import announce
from services.trainer.data.task_rows import TaskRows, as_training, rows_to_count, task_rows
from services.trainer.data.taught_rows import taught_rows
from services.trainer.evaluation.generate import answers_of, exact_match
from services.trainer.jobs.adapter import commonest_instruction
from services.trainer.multitask.samplers import drawn_rows
from services.trainer.multitask.stages import Stage, stages_of
from shared.adapter_files import BaseShapes, check_adapter, check_planned
from shared.contracts.manifests import AdapterManifest
from shared.contracts.multitask import MultitaskTrain
from shared.contracts.training_cost import Work, together, work_of
from shared.contracts.training_tasks import REPEATED_FIELDS
from shared.errors import Conflict, Invalid
from shared.registry.ended import ended_result

MultitaskContext = TrainingContext[MultitaskTrain]


def train_multitask(context: MultitaskContext) -> dict[str, Any]:
    """Train on high-resource tasks, then on all, measure each, and register a version of each label (section 4.2)."""
    shapes = BaseShapes.from_folder(context.clients.base_folder)
    check_planned(context.body.settings, shapes, context.clients.adapter_limits)
    high, warnings = high_resource(context)
    tasks, warnings = _taught(context, warnings)
    sizes = {label: len(own.train) for label, own in tasks.items()}
    stages = stages_of(sizes, high, context.body)
    context = context.settled()
    announce(context, _work(context, tasks, stages))
    context.report("stages", stages=[stage.as_report(sizes, context.body) for stage in stages])
    adapter = _trained(context, tasks, stages)
    scores = _measured(context, adapter, tasks)
    refs = _register(context, adapter, tasks, scores)
    return {
        "adapter": refs[0].digest,
        "refs": {manifest.label: manifest.ref for manifest in refs},
        "prefixes": context.body.all_prefixes,
        "train_rows": sizes,
        "precision": context.body.settings.precision,
        "stages": [stage.as_report(sizes, context.body) for stage in stages],
        "steps": sum(stage.steps for stage in stages),
        "exact_match": scores,
        "macro_exact_match": round(sum(scores.values()) / max(len(scores), 1), 4),
        "warnings": warnings,
    }


def high_resource(context: MultitaskContext) -> tuple[Sequence[str], list[str]]:
    """The labels of the first stage, by the plan or the job itself, and warnings; the first attempt settles them."""
    body = context.body
    if not body.two_stages:
        return (), []
    if not body.plan:
        return body.high_resource or (), []
    tenant_id, ledger = context.job.tenant_id, context.clients.ledger
    plan = context.checkpoints().once("plan", lambda: ended_result(ledger, tenant_id, body.plan, "multitask.plan"))
    if plan["base_model"] != context.clients.base_model:
        raise Conflict(
            "plan_base_mismatch",
            f"plan {body.plan} was made on base model {plan['base_model']}, this training is on "
            f"{context.clients.base_model}: plan anew there, or name the labels in high_resource",
        )
    if unplanned := sorted(set(body.labels) - set(plan["tasks"])):
        raise Invalid(
            "label_unplanned", f"plan {body.plan} lacks {', '.join(unplanned)}: plan with them, or leave them out"
        )
    groups = {plan["tasks"][label]["group"] for label in body.labels}
    apart = f"the plan keeps these tasks apart: {'; '.join(sorted(groups))}; they may hinder each other"
    return [label for label in body.labels if plan["tasks"][label]["resource"] == "high"], [apart] * (len(groups) > 1)


def _taught(context: MultitaskContext, warnings: list[str]) -> tuple[dict[str, TaskRows], list[str]]:
    tasks = {}
    for label, dataset in context.body.labels.items():
        own = task_rows(context, label, dataset, context.body.validation.get(label))
        taught = taught_rows(context, label, dataset, own.train, context.body.all_prefixes[label])
        tasks[label] = own._replace(train=taught.rows)
        warnings = [*warnings, *taught.warnings]
    if warnings:
        context.report("data_checked", warnings=warnings)
    return tasks, warnings


def _work(context: MultitaskContext, tasks: Mapping[str, TaskRows], stages: Sequence[Stage]) -> Work:
    body = context.body
    trained = together(rows_to_count(own.train) for own in tasks.values())
    read = together(rows_to_count(own.validation[: body.evaluate_rows]) for own in tasks.values())
    once = work_of(body.settings.model_copy(update={"epochs": 1}), trained, read)
    draws = sum(stage.draws(body) for stage in stages)
    return once._replace(steps=sum(s.steps for s in stages), tokens=once.tokens * draws / max(trained.number, 1))


def _trained(context: MultitaskContext, tasks: Mapping[str, TaskRows], stages: Sequence[Stage]) -> Path:
    """The folder of the weights after all stages; the weights of one that has ended are in the store."""
    folder, weights = context.folder(), context.registry.weights
    start: Path | None = None
    for stage in stages:
        put = partial(_stage_stored, context, tasks, stage, folder / stage.name, start)
        start = weights.fetch(str(context.checkpoints().once(stage.name, put)["digest"]))
    assert start is not None
    return start


def _stage_stored(
    context: MultitaskContext, tasks: Mapping[str, TaskRows], stage: Stage, folder: Path, start: Path | None
) -> dict[str, Any]:
    from services.trainer.training import lora

    body, clients = context.body, context.clients

    def draw(sizes: Sequence[int]) -> list[int]:
        draws = stage.draws(body)
        return drawn_rows(stage.sampling.probabilities(sizes, draws), sizes, draws, body.settings.seed)

    context.report(stage.name, steps=stage.steps, labels=list(stage.labels))
    folder.mkdir()
    made = lora.train_drawn(
        clients.base_folder,
        clients.tokenizer,
        [as_training(tasks[label].train, body.all_prefixes[label]) for label in stage.labels],
        draw,
        config=body.settings,
        work_dir=folder,
        callbacks=context.callbacks(stage.name),
        resume_from=context.resume_from(folder, stage.name),
        start_from=start,
        launcher=clients.training_launcher,
        cut_answers=body.long_answers == "cut",
        template=context.template(body.settings.template),
    )
    return {"digest": context.registry.weights.put(made)}


def _measured(context: MultitaskContext, adapter: Path, tasks: Mapping[str, TaskRows]) -> dict[str, float]:
    """Each task's exact match on rows that it was not trained on."""
    from services.trainer.training.base import load_base
    from shared.model.merge import with_adapter

    context.check()
    context.report("evaluating")
    body = context.body
    if not body.evaluate_rows:
        return {}
    model = with_adapter(load_base(context.clients.base_folder, body.settings), adapter)
    scores = {}
    for label, own in tasks.items():
        rows = own.validation[: body.evaluate_rows]
        answers = answers_of(context, model, rows, body.all_prefixes[label])
        scores[label] = round(exact_match(answers, as_training(rows)), 4)
    return scores


def _register(
    context: MultitaskContext, adapter: Path, tasks: Mapping[str, TaskRows], scores: Mapping[str, float]
) -> list[AdapterManifest]:
    """A version of each label that names the same weights; a later attempt finds those that are there already."""
    body, clients = context.body, context.clients
    info = asdict(check_adapter(adapter, BaseShapes.from_folder(clients.base_folder), clients.adapter_limits))
    shared = AdapterManifest(
        tenant_id=context.job.tenant_id,
        label="",
        version=0,
        digest="",
        base_model=clients.base_model,
        template=body.settings.template,
        labels=body.all_prefixes,
        info=info,
        made_by=context.job.id,
    )
    context.check()
    made = []
    for label, own in tasks.items():
        report = {
            "dataset": body.labels[label],
            "train_rows": len(own.train),
            # What trains the label alone on another base model.
            "training": {name: context.job.body[name] for name in REPEATED_FIELDS if name in context.job.body},
            **({"adapter_exact_match": scores[label]} if label in scores else {}),
        }
        instruction = commonest_instruction(own.train)
        manifest = shared.model_copy(update={"label": label, "instruction": instruction, "report": report})
        made.append(context.registry.adapters.add(adapter, manifest))
    return made
