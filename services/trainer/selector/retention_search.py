"""A selector at the retention ratio that a job asks for, or at the smallest ratio that keeps the old labels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.trainer.context import SelectorContext
from services.trainer.selector.judge import JudgedSelector
from services.trainer.selector.plan import Plan
from services.trainer.selector.retention import Point, least_loss
from shared.contracts.gate import Loss, largest_loss, losses
from shared.contracts.training import RATIOS, SelectorTrain


class Trial(NamedTuple):
    """A selector made with one retention ratio, the largest loss of a label that it keeps, and whether it may."""

    retention: float
    judged: JudgedSelector
    loss: Loss
    holds: bool

    @property
    def point(self) -> Point:
        """Its point on the curve."""
        return Point(self.retention, self.judged.report["accuracy"], self.loss.accuracy, self.loss.label)


def search_retention(context: SelectorContext, plan: Plan, make: Callable[[float], JudgedSelector]) -> JudgedSelector:
    """Make a selector at one retention ratio after the other, each from the same start, until one holds.

    The report of an update names the ratio and the curve of all ratios that were tried.
    """
    trials: list[Trial] = []
    for retention in _ratios(context, plan):
        trials.append(_trial(context, plan, retention, make))
        if trials[-1].holds:
            break
    return trials[0].judged if isinstance(context.body, SelectorTrain) else _best(trials)


def _ratios(context: SelectorContext, plan: Plan) -> Sequence[float]:
    body = context.body
    if isinstance(body, SelectorTrain):
        return (1.0,)
    if plan.has_llm and plan.llm_start is None:
        return (1.0,)  # a language model that is trained from nothing has forgotten nothing
    if body.retention != "auto":
        return (body.retention,)
    return RATIOS if plan.has_llm else RATIOS[:1]  # what has no language model is the same at every ratio


def _trial(context: SelectorContext, plan: Plan, retention: float, make: Callable[[float], JudgedSelector]) -> Trial:
    """One ratio; where a killed attempt has judged this ratio already, its result holds."""

    def judged_anew() -> dict[str, object]:
        context.report("trying_retention", retention=retention)
        return make(retention).model_dump(mode="json")

    judged = JudgedSelector.model_validate(context.checkpoints().once(f"judged-{retention:g}", judged_anew))
    before, now = judged.report["before"], judged.report["per_label"]
    rows = {label: len(own) for label, own in plan.data.sets.validation.items()}
    holds = not losses(before, now, context.body.max_loss, rows)
    return Trial(retention, judged, largest_loss(before, now), holds)


def _best(trials: Sequence[Trial]) -> JudgedSelector:
    curve = [trial.point for trial in trials]
    best = curve[-1] if trials[-1].holds else least_loss(curve)
    judged = trials[curve.index(best)].judged
    search = {"retention": best.retention, "curve": [point._asdict() for point in curve]}
    return judged.model_copy(update={"report": {**judged.report, **search}})
