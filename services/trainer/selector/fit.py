"""The parts of a selector, fitted on a plan's rows and stored."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.trainer.context import AnyContext, SelectorContext
from services.trainer.selector.data import texts_of
from services.trainer.selector.plan import Plan
from shared.contracts.labels import Label, parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.prompts import selector_prompt
from shared.model.head import has_head
from shared.model.tokens import encode

if TYPE_CHECKING:
    from services.trainer.training.lora import Start


def fit_selector(context: SelectorContext, plan: Plan, retention: float) -> ReleaseSelector:
    """Fit and store the parts that the plan's kind has; the result is not calibrated yet."""
    return ReleaseSelector(
        llm=_fit_llm(context, plan, retention) if plan.kind != "light" else "",
        light=_fit_light(context, plan) if plan.kind != "llm" else "",
        labels=tuple(plan.data.labels),
        text=plan.text,
    )


def _fit_llm(context: SelectorContext, plan: Plan, retention: float) -> str:
    from services.trainer.data.representation import mixed
    from services.trainer.training import lora

    clients, settings, run = context.clients, context.body.settings, f"{retention:g}"
    folder = context.folder()
    labels = [parse_label(label) for label in plan.data.labels]
    start = _start(context, plan)
    texts = texts_of(plan.data.llm_rows(retention, settings.seed))
    if start and not texts:
        return context.registry.weights.put(lora.carry_over(start, labels, folder))
    weights = lora.train_selector(
        clients.base_folder,
        clients.tokenizer,
        mixed(texts, settings.seed, equal=start is None),
        labels=labels,
        config=settings,
        work_dir=folder,
        callbacks=context.callbacks(run),
        resume_from=context.resume_from(folder, run),
        launcher=clients.training_launcher,
        start_from=start,
        head=has_head(start.weights) if start else _needs_head(context, plan, labels),
    )
    return context.registry.weights.put(weights)


def _start(context: AnyContext, plan: Plan) -> "Start | None":
    from services.trainer.training.lora import Start

    old = plan.start_from
    return Start(context.registry.weights.fetch(old.llm), [parse_label(label) for label in old.labels]) if old else None


def _needs_head(context: AnyContext, plan: Plan, labels: Sequence[Label]) -> bool:
    if plan.readout != "auto":
        return plan.readout == "head"
    prompt = encode(context.clients.tokenizer, selector_prompt("", labels), sys.maxsize)
    return 2 * len(prompt) > context.body.settings.max_length


def _fit_light(context: AnyContext, plan: Plan) -> str:
    """Fit the light selector on the whole representation set, that of old labels too: so it forgets nothing."""
    from services.trainer.training.light import fit_light

    rows = plan.data.sets.representation

    def fit() -> dict[str, str]:
        context.check()
        context.report("fitting_light_selector", rows=sum(map(len, rows.values())))
        light = fit_light(texts_of(rows))
        with context.temporary() as folder:
            return {"digest": context.registry.weights.put_light(light.save(folder / "light.safetensors"))}

    # It does not depend on the retention ratio, so a job that tries several ratios fits it once.
    return str(context.checkpoints().once("light", fit)["digest"])
