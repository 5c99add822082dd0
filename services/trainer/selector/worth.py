"""Which kind of selector labels are worth: none is trained where prototypes or words do (decisions 22 and 30)."""

from dataclasses import replace
from typing import NamedTuple

from services.trainer.context import SelectorContext
from services.trainer.cost import estimated
from services.trainer.selector.few_rows import FEW
from services.trainer.selector.fit import fit_selector, llm_work
from services.trainer.selector.judge import JudgedSelector, calibrate_selector, judge_selector
from services.trainer.selector.plan import Plan
from services.trainer.selector.prototypes import requests_of
from shared.contracts.durations import in_words
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import SelectorKind
from shared.contracts.training_tasks import MIN_ROWS

ENOUGH = 0.95
"""Share of the validation rows on which a selector without a language model must be right."""
GAIN = 0.02
"""Share of the validation rows by which prototypes must be better than words, which cost a request nothing."""


class Choice(NamedTuple):
    """The kind that `auto` stands for, and why."""

    kind: SelectorKind
    why: str
    is_short_of: bool = False
    """Whether the language model was left out although the kind is not enough."""


class _Small(NamedTuple):
    """A selector without a language model, measured."""

    kind: SelectorKind
    accuracy: float
    told: str
    is_enough: bool


def settle_kind(context: SelectorContext, plan: Plan) -> Plan:
    """Return the plan with a kind in place of `auto`: the smallest that is enough, else a cascade if affordable.

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
    counts = {label: rows for label, rows in requests_of(plan).items() if label != BACKGROUND}
    fewest = min(counts, key=lambda label: counts[label])
    if counts[fewest] < MIN_ROWS:
        return Choice("prototypes", f"{fewest} has {counts[fewest]} rows, and words alone need {MIN_ROWS}: prototypes")
    small = _measured(context, plan, "light")
    if counts[fewest] < FEW:
        near = _measured(context, plan, "prototypes")
        small = near if near.accuracy >= small.accuracy + GAIN else small
    if small.is_enough:
        return Choice(small.kind, f"{small.told}: no language model is needed")
    found, limit = estimated(context, llm_work(context, plan)), context.clients.confirm_training_seconds
    if found and limit and found.seconds > limit and not context.body.confirm_cost:
        return Choice(
            small.kind,
            f"{small.told}; the language model was left out, it would train for about {in_words(found.seconds)}, above "
            f"the limit of {in_words(limit)}: train again with `confirm_cost: true` (`--confirm-cost`)",
            is_short_of=True,
        )
    return Choice("cascade", f"{small.told}: the language model is trained, too")


def _measured(context: SelectorContext, plan: Plan, kind: SelectorKind) -> _Small:
    own = replace(plan, kind=kind)
    judged = judge_selector(context, own, calibrate_selector(context, own, fit_selector(context, own, 1.0)))
    accuracy, name = judged.report["accuracy"], {"light": "words alone"}.get(kind, kind)
    told = f"{name} are right on {accuracy:.3f} of {judged.report['n']} validation rows"
    return _Small(kind, accuracy, told, _are_enough(judged))


def _are_enough(judged: JudgedSelector) -> bool:
    return judged.verdict.passed and judged.report["accuracy"] >= ENOUGH
