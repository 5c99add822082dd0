"""The parts of a selector, fitted on a plan's rows and stored."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.trainer.context import TrainingContext
from services.trainer.selector.data import texts_of
from services.trainer.selector.plan import Plan
from shared.contracts.jobs import Job
from shared.contracts.labels import Label, parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.prompts import selector_prompt
from shared.contracts.training import SelectorBody
from shared.model.head import has_head
from shared.model.tokens import encode
from shared.worker.leases import HeldJob

if TYPE_CHECKING:
    from services.trainer.training.lora import Start


def train_selector(
    job: Job, held: HeldJob, body: SelectorBody, plan: Plan, retention: float, context: TrainingContext
) -> ReleaseSelector:
    """Fit and store what the plan's kind is made of; nothing is calibrated yet."""
    return ReleaseSelector(
        llm=_fit_llm(job, held, body, plan, retention, context) if plan.kind != "light" else "",
        light=_fit_light(job, held, plan, context) if plan.kind != "llm" else "",
        labels=tuple(plan.scored_labels),
        text=plan.text,
    )


def _fit_llm(
    job: Job, held: HeldJob, body: SelectorBody, plan: Plan, retention: float, context: TrainingContext
) -> str:
    from services.trainer.data.representation import mixed
    from services.trainer.training import lora

    run = f"{retention:g}"
    folder = context.folder(job)
    labels = [parse_label(label) for label in plan.scored_labels]
    start = _start(plan, context)
    shown = texts_of(plan.shown(retention, body.settings.seed))
    if start and not shown:
        return context.registry.weights.put(lora.carry_over(start, labels, folder))
    weights = lora.train_selector(
        context.base_folder,
        context.tokenizer,
        mixed(shown, body.settings.seed, equal=start is None),
        labels=labels,
        config=body.settings,
        work_dir=folder,
        callbacks=context.callbacks(job, held, body.kind, run),
        resume_from=context.resume_from(job, folder, run),
        launcher=context.training_launcher,
        start_from=start,
        head=has_head(start.weights) if start else _wants_head(plan, labels, body.settings.max_length, context),
    )
    return context.registry.weights.put(weights)


def _start(plan: Plan, context: TrainingContext) -> "Start | None":
    from services.trainer.training.lora import Start

    old = plan.start_from
    return Start(context.registry.weights.fetch(old.llm), [parse_label(label) for label in old.labels]) if old else None


def _wants_head(plan: Plan, labels: Sequence[Label], max_length: int, context: TrainingContext) -> bool:
    if plan.readout != "auto":
        return plan.readout == "head"
    return 2 * len(encode(context.tokenizer, selector_prompt("", labels), sys.maxsize)) > max_length


def _fit_light(job: Job, held: HeldJob, plan: Plan, context: TrainingContext) -> str:
    """Fit the light selector on all representative rows, those of old labels too: so it forgets nothing."""
    from services.trainer.training.light import fit_light

    def fitted() -> dict[str, str]:
        held.check()
        context.report(job, "fitting_light_selector", rows=sum(map(len, plan.sets.representation.values())))
        light = fit_light(texts_of(plan.sets.representation))
        with context.temporary() as folder:
            return {"digest": context.registry.weights.put_light(light.save(folder / "light.safetensors"))}

    # No retention ratio changes it, so that a job that tries several fits it once.
    return str(context.checkpoints(job).once("light", fitted)["digest"])
