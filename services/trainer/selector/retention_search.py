"""A selector at the retention ratio that a job asks for, or at the smallest one that holds."""

from collections.abc import Sequence
from typing import NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.evaluation.gate import Loss, largest_loss
from services.trainer.selector.fit import train_selector
from services.trainer.selector.judge import Judged, judge_selector
from services.trainer.selector.plan import Plan
from services.trainer.selector.retention import RATIOS, Point, smallest_that_holds
from shared.contracts.jobs import Job
from shared.contracts.training import SelectorBody, SelectorTrain
from shared.worker.leases import HeldJob


class Trial(NamedTuple):
    """A selector made with one retention ratio, and what it cost the labels that were there before."""

    retention: float
    judged: Judged
    loss: Loss

    @property
    def point(self) -> Point:
        """Its place on the curve."""
        return Point(self.retention, self.judged.report["accuracy"], self.loss.accuracy, self.loss.label)


def best_selector(job: Job, held: HeldJob, body: SelectorBody, plan: Plan, context: TrainingContext) -> Judged:
    """Train and judge at one retention ratio after the other, from the same start, until one holds.

    The report of an update names the ratio and the curve of all that were tried.
    """
    trials: list[Trial] = []
    for retention in _ratios(body, plan):
        trials.append(_trial(job, held, body, plan, retention, context))
        if trials[-1].loss.is_within(body.max_loss):
            break
    return trials[0].judged if isinstance(body, SelectorTrain) else _chosen(trials)


def _ratios(body: SelectorBody, plan: Plan) -> Sequence[float]:
    if isinstance(body, SelectorTrain):
        return (1.0,)
    if body.retention != "auto":
        return (body.retention,)
    return RATIOS[:1] if plan.kind == "light" else RATIOS  # a light selector is the same at every ratio


def _trial(
    job: Job, held: HeldJob, body: SelectorBody, plan: Plan, retention: float, context: TrainingContext
) -> Trial:
    """One ratio; where an attempt that was killed has judged it already, what that one found."""

    def made() -> dict[str, object]:
        context.report(job, "trying_retention", retention=retention)
        selector = train_selector(job, held, body, plan, retention, context)
        held.check()
        context.report(job, "evaluating")
        return judge_selector(selector, held, body, plan, context).model_dump(mode="json")

    judged = Judged.model_validate(context.checkpoints(job).once(f"judged-{retention:g}", made))
    return Trial(retention, judged, largest_loss(judged.report["before"], judged.report["per_label"]))


def _chosen(trials: Sequence[Trial]) -> Judged:
    curve = [trial.point for trial in trials]
    judged = trials[curve.index(best := smallest_that_holds(curve))].judged
    seen = {"retention": best.retention, "curve": [point._asdict() for point in curve]}
    return judged.model_copy(update={"report": {**judged.report, **seen}})
