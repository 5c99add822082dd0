"""Whether a new selector needs a language model: words come first, and what they lack decides (decision 22)."""

from dataclasses import replace
from typing import NamedTuple

from services.trainer.context import SelectorContext
from services.trainer.cost import estimated
from services.trainer.selector.fit import fit_selector, llm_work
from services.trainer.selector.judge import JudgedSelector, calibrate_selector, judge_selector
from services.trainer.selector.plan import Plan
from shared.contracts.manifests import SelectorKind
from shared.contracts.training_cost import in_words

ENOUGH = 0.95
"""Share of the validation rows on which words alone must be right."""


class Choice(NamedTuple):
    """The kind that `auto` stands for, and why."""

    kind: SelectorKind
    why: str
    is_short_of: bool = False
    """Whether the language model was left out although words are not enough."""


def settle_kind(context: SelectorContext, plan: Plan) -> Plan:
    """Return the plan with a kind in place of `auto`: words alone where they are enough, else a cascade if affordable.

    The report says why. The choice holds for all attempts of the job.
    """
    if plan.kind != "auto":
        return plan
    choice = Choice(**context.checkpoints().once("kind", lambda: _choose(context, plan)._asdict()))
    context.report("kind_chosen", selector=choice.kind, why=choice.why)
    notes = {**plan.data.notes, "kind_chosen": choice.why}
    if choice.is_short_of:
        notes["warnings"] = [*notes.get("warnings", ()), choice.why]
    return replace(plan, kind=choice.kind, data=replace(plan.data, notes=notes))


def _choose(context: SelectorContext, plan: Plan) -> Choice:
    words = replace(plan, kind="light")
    judged = judge_selector(context, words, calibrate_selector(context, words, fit_selector(context, words, 1.0)))
    told = f"words alone are right on {judged.report['accuracy']:.3f} of {judged.report['n']} validation rows"
    if _are_enough(judged):
        return Choice("light", f"{told}: no language model is needed")
    found, limit = estimated(context, llm_work(context, plan)), context.clients.confirm_training_seconds
    if found and limit and found.seconds > limit and not context.body.confirm_cost:
        return Choice(
            "light",
            f"{told}; the language model was left out, it would train for about {in_words(found.seconds)}, above the "
            f"limit of {in_words(limit)}: train again with `confirm_cost: true` (`--confirm-cost`)",
            is_short_of=True,
        )
    return Choice("cascade", f"{told}: the language model is trained, too")


def _are_enough(judged: JudgedSelector) -> bool:
    return judged.verdict.passed and judged.report["accuracy"] >= ENOUGH
