"""The job `multitask.plan`: which tasks may share an adapter, and which of them are high-resource."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.context import TrainingContext
from services.trainer.cost import announce
from services.trainer.data.task_rows import TaskRows, as_training, rows_to_count, task_rows
from services.trainer.data.taught_rows import taught_rows
from services.trainer.multitask.stages import overfits_at, resource_of
from services.trainer.multitask.taxonomy import Task, groups_of, task_of
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.multitask import LOW_BELOW, MultitaskPlan
from shared.contracts.training_cost import Work, together, work_of
from shared.errors import Cancelled

if TYPE_CHECKING:
    from services.trainer.evaluation.template_choice import Losses
    from services.trainer.training.loop import Callbacks

PlanContext = TrainingContext[MultitaskPlan]


def plan_tasks(context: PlanContext) -> dict[str, Any]:
    """Sort the tasks by their forms, then by the epoch at which a single-task run of each overfits (section 4)."""
    body = context.body
    rows = {label: context.rows(dataset, label) for label, dataset in body.labels.items()}
    tasks = {label: task_of(own, body.overrides.get(label)) for label, own in rows.items()}
    groups = groups_of(tasks, body.split_by, body.overrides)
    group_of = {label: name for name, labels in groups.items() for label in labels}
    context.report("sorted", groups=groups)
    context = context.settled()
    split, warnings = _rows_of_runs(context)
    announce(context, _work(context, split))
    resources = _Runs(context).resources(split)
    return {
        "base_model": context.clients.base_model,
        "split_by": body.split_by,
        "groups": groups,
        "tasks": {
            label: {**_told(task), "rows": len(rows[label]), "group": group_of[label], **resources[label]}
            for label, task in tasks.items()
        },
        "warnings": warnings,
    }


def _told(task: Task) -> dict[str, Any]:
    return {"kind": task.kind, "input": task.input, "output": task.output, "reasons": list(task.reasons)}


def _rows_of_runs(context: PlanContext) -> tuple[dict[str, TaskRows], list[str]]:
    """The rows of each task that a run has to be made for, and warnings about them."""
    body, found, warnings = context.body, {}, []
    for label, dataset in body.labels.items():
        if body.says_resource(label):
            continue
        own = task_rows(context, label, dataset, None)
        taught = taught_rows(context, label, dataset, own.train)
        found[label] = TaskRows(taught.rows, own.validation[: body.evaluate_rows])
        warnings += taught.warnings
    if warnings:
        context.report("data_checked", warnings=warnings)
    return found, warnings


def _work(context: PlanContext, split: Mapping[str, TaskRows]) -> Work:
    """All runs to their last possible epoch, and the validation rows after each."""
    epochs = LOW_BELOW - 1
    read = together(rows_to_count(own.validation) for own in split.values())
    return work_of(
        context.body.settings.model_copy(update={"epochs": epochs}),
        together(rows_to_count(own.train) for own in split.values()),
        read._replace(number=epochs * read.number),
    )


class _Runs:
    """The single-task runs of a plan, one after the other; each resumes where a killed attempt left it."""

    def __init__(self, context: PlanContext) -> None:
        self._context = context
        self._folder = context.folder()
        self._base: Any = None

    def resources(self, split: Mapping[str, TaskRows]) -> dict[str, dict[str, Any]]:
        """What is found of each task, with its reason."""
        found: dict[str, dict[str, Any]] = {}
        for label in self._context.body.labels:
            if label not in split:
                said = self._context.body.overrides[label].resource
                found[label] = {"resource": said, "resource_reason": f"{said}: said in the overrides", "losses": []}
                continue
            self._context.check()
            losses = _Run(self, label, split[label]).losses()
            found[label] = _found(losses)
            self._context.report("task_planned", label=label, **found[label])
        return found

    @property
    def context(self) -> PlanContext:
        return self._context

    def folder(self, label: str) -> Path:
        """An empty working folder of a task's run."""
        folder = self._folder / label
        folder.mkdir()
        return folder

    def loss(self, checkpoint: Path, own: TaskRows, base_losses: "Losses | None") -> tuple[float, "Losses"]:
        """The validation loss of a run's weights, and the base model's losses, which are worked out once a task."""
        from services.trainer.evaluation.template_scores import Scored
        from services.trainer.training.base import load_base
        from shared.model.merge import with_adapter

        context, settings = self._context, self._context.body.settings
        base = self._base or load_base(context.clients.base_folder, settings)
        with context.temporary() as folder:  # a checkpoint also holds the optimizer, which no adapter may
            for name in (CONFIG_NAME, WEIGHTS_NAME):
                shutil.copy(checkpoint / name, folder)
            model = with_adapter(base, folder)
        scored = Scored(model, context.clients.tokenizer, as_training(own.validation), max_length=settings.max_length)
        name, template = settings.template, context.template(settings.template)
        (score,) = scored.scores(
            {name: template}, answers=False, known_base={(name,): base_losses} if base_losses else None
        )
        self._base = model.unload()
        return score.loss, score.base_losses


class _Run:
    """One task's run, until it is known whether it overfits early."""

    def __init__(self, runs: _Runs, label: str, own: TaskRows) -> None:
        self._runs, self._label, self._own = runs, label, own
        self._context = runs.context
        self._losses: list[float] = []
        self._base_losses: Losses | None = None
        settings = self._context.body.settings
        # Whole steps: where the rows do not fill the last one, an epoch is up to half a step off.
        self._steps = max(1, round(len(own.train) / (settings.batch_size * settings.accumulate)))

    def losses(self) -> list[float]:
        """Train until the losses decide, or the settings' epochs end."""
        from services.trainer.training import lora

        context, clients, run = self._context, self._context.clients, f"plan-{self._label}"
        folder = self._runs.folder(self._label)
        resumed = context.resume_from(folder, run)
        if resumed:
            self._judge_until(resumed)
        if resource_of(self._losses):
            return self._losses
        settings = context.body.settings.model_copy(update={"checkpoint_steps": self._steps})
        context.report("task_run", label=self._label)
        try:
            lora.train_adapter(
                clients.base_folder,
                clients.tokenizer,
                as_training(self._own.train),
                config=settings,
                work_dir=folder,
                callbacks=self._watching(context.callbacks(run)),
                resume_from=resumed,
                launcher=clients.training_launcher,
                cut_answers=context.body.long_answers == "cut",
                template=context.template(settings.template),
            )
        except Cancelled:
            if not resource_of(self._losses) or context.lease.must_stop:
                raise
        return self._losses

    def _watching(self, callbacks: "Callbacks") -> "Callbacks":
        """Callbacks that judge each epoch's weights, and stop the run where the losses decide."""

        def on_checkpoint(folder: Path, step: int) -> None:
            callbacks.on_checkpoint(folder, step)
            self._judge_until(folder)

        def should_stop() -> bool:
            return callbacks.should_stop() or resource_of(self._losses) is not None

        return callbacks._replace(on_checkpoint=on_checkpoint, should_stop=should_stop)

    def _judge_until(self, checkpoint: Path) -> None:
        """Take the losses of earlier epochs from the store, and work out that of this checkpoint where it is not."""
        epoch = int(checkpoint.name.rsplit("-", 1)[1]) // self._steps
        for number in range(len(self._losses) + 1, epoch + 1):
            known = self._context.checkpoints().once(f"plan-{self._label}-{number}", lambda: self._judged(checkpoint))
            self._losses.append(float(known["loss"]))
        self._context.report("epoch_judged", label=self._label, epoch=epoch, losses=self._losses)

    def _judged(self, checkpoint: Path) -> dict[str, float]:
        loss, self._base_losses = self._runs.loss(checkpoint, self._own, self._base_losses)
        return {"loss": loss}


def _found(losses: list[float]) -> dict[str, Any]:
    """A run that ends before the losses decide has fewer epochs than low-resource tasks may have."""
    told = ", ".join(f"{loss:.3f}" for loss in losses)
    if epoch := overfits_at(losses):
        return {
            "resource": "low",
            "resource_reason": f"low: its validation loss rises in epoch {epoch}, before epoch {LOW_BELOW} ({told})",
            "overfits_at": epoch,
            "losses": losses,
        }
    return {
        "resource": "high",
        "resource_reason": f"high: its validation loss does not rise in {len(losses)} epochs ({told})",
        "overfits_at": None,
        "losses": losses,
    }
