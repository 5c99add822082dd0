"""The parts of a selector, fitted on a plan's rows and stored."""

import sys
from typing import TYPE_CHECKING

from services.trainer.context import AnyContext, SelectorContext
from services.trainer.cost import announce
from services.trainer.selector.data import texts_of
from services.trainer.selector.plan import Plan
from services.trainer.selector.prototypes import fit_prototypes
from shared.contracts.labels import parse_label
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.prompts import render, selector_prompt
from shared.contracts.training_cost import Rows, Work, work_of
from shared.model.head import has_head
from shared.model.tokens import encode

if TYPE_CHECKING:
    from services.trainer.training.lora import Start


def fit_selector(context: SelectorContext, plan: Plan, retention: float) -> ReleaseSelector:
    """Fit and store the parts that the plan's kind has; the result is not calibrated yet."""
    if plan.kind == "prototypes":
        return fit_prototypes(context, plan)
    return ReleaseSelector(
        llm=_fit_llm(context, plan, retention) if plan.has_llm else "",
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
    announce(context, llm_work(context, plan, retention))
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
        head=trains_head(context, plan),
    )
    return context.registry.weights.put(weights)


def llm_work(context: SelectorContext, plan: Plan, retention: float = 1.0) -> Work:
    """Return the language model's work: it reads each text beside the names of the labels, or with a head alone."""
    texts = texts_of(plan.data.llm_rows(retention, context.body.settings.seed))
    trained = Rows.of([text for own in texts.values() for text in own])
    if plan.llm_start is None:  # see `mixed`
        trained = trained._replace(number=len(texts) * max(map(len, texts.values())))
    read = [text for own in texts_of(plan.data.sets.validation).values() for text in own]
    labels = [parse_label(label) for label in plan.data.labels]
    prompt = "" if trains_head(context, plan) else render(selector_prompt("", labels))
    return work_of(context.body.settings, trained, Rows.of(read), prompt_bytes=len(prompt.encode()))


def _start(context: AnyContext, plan: Plan) -> "Start | None":
    from services.trainer.training.lora import Start

    old = plan.llm_start
    return Start(context.registry.weights.fetch(old.llm), [parse_label(label) for label in old.labels]) if old else None


def trains_head(context: AnyContext, plan: Plan) -> bool:
    """Whether the language model gets a linear head; one that is fine-tuned again keeps its form."""
    if plan.llm_start:
        return has_head(context.registry.weights.fetch(plan.llm_start.llm))
    if plan.readout != "auto":
        return plan.readout == "head"
    labels = [parse_label(label) for label in plan.data.labels]
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
