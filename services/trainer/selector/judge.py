"""A fitted selector, calibrated and judged against the release before (paper, section 3.3)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from services.trainer.context import TrainingContext
from services.trainer.evaluation.calibration import CalibrationTarget
from services.trainer.evaluation.gate import judge
from services.trainer.evaluation.routing import Routed, fates, measure
from services.trainer.selector.data import Rows
from services.trainer.selector.plan import Plan
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector, Verdict
from shared.contracts.training import SelectorBody
from shared.worker.leases import HeldJob

if TYPE_CHECKING:
    from services.trainer.evaluation.selector import SelectorScorer, SelectorScores


class Judged(BaseModel):
    """A trained selector with its calibration, its metrics on the validation rows, and the gate's answer."""

    model_config = ConfigDict(frozen=True)

    selector: ReleaseSelector
    report: dict[str, Any]
    verdict: Verdict


def judge_selector(
    selector: ReleaseSelector, held: HeldJob, body: SelectorBody, plan: Plan, context: TrainingContext
) -> Judged:
    """Calibrate and measure on the validation rows, and compare with the release before."""
    from services.trainer.evaluation.selector import calibrate

    validation = plan.sets.validation
    reader = _reader(held, body, context)
    gold = _gold(validation)
    scores = reader.score(selector, _all(validation))
    target = CalibrationTarget(
        body.max_false_reject,
        body.background_reject,
        min_llm_share=body.min_llm_share,
        max_llm_share=body.max_llm_share,
    )
    final, threshold = calibrate(selector, scores, gold, target)
    measured = measure(_routed(final, scores, validation))
    before = _accuracy_before(plan, held, body, context)
    verdict = judge(before, measured.per_label, min_accuracy=body.min_accuracy, max_loss=body.max_loss)
    report = {
        **measured._asdict(),
        "threshold": threshold._asdict(),
        "before": before,
        "asked": _asked(final, scores),
        "parts": _accuracy_of_parts(final, scores, validation),
        **plan.notes,
    }
    if plan.deleted:
        report["deleted"] = _fates_of_deleted(final, reader, plan.deleted)
    return Judged(
        selector=final, report=report, verdict=Verdict(passed=verdict.passed, reasons=tuple(verdict.sentences))
    )


def _fates_of_deleted(selector: ReleaseSelector, reader: "SelectorScorer", deleted: Rows) -> dict[str, Any]:
    """What becomes of the texts of labels that are gone, by label."""
    scores = reader.score(selector, _all(deleted))
    return {label: fate._asdict() for label, fate in fates(_routed(selector, scores, deleted)).items()}


def _accuracy_before(
    plan: Plan, held: HeldJob, body: SelectorBody, context: TrainingContext
) -> Mapping[str, float] | None:
    """What the parent reaches per kept label on the same rows; None where it has none of the labels."""
    if plan.parent is None or plan.parent.selector is None:
        return None
    if plan.start_from and "per_label" in plan.parent.report:  # measured on the very rows that come with it
        return dict(plan.parent.report["per_label"])
    if not plan.kept_validation:
        return None
    selector = plan.parent.selector
    scores = _reader(held, body, context).score(selector, _all(plan.kept_validation))
    return measure(_routed(selector, scores, plan.kept_validation)).per_label


def _reader(held: HeldJob, body: SelectorBody, context: TrainingContext) -> "SelectorScorer":
    from services.trainer.evaluation.selector import SelectorScorer

    return SelectorScorer(
        context.registry, context.base_folder, context.tokenizer, body.settings.max_length, check=held.check
    )


def _routed(selector: ReleaseSelector, scores: "SelectorScores", rows: Rows) -> list[Routed]:
    from services.trainer.evaluation.selector import route_rows

    return route_rows(selector, scores, _gold(rows))


def _accuracy_of_parts(selector: ReleaseSelector, scores: "SelectorScores", rows: Rows) -> dict[str, float]:
    """Accuracy of the selector and of each part alone on the rows that belong somewhere, where nothing is rejected."""
    from services.trainer.evaluation.selector import parts_of

    def accuracy(part: ReleaseSelector) -> float:
        return measure([row for row in _routed(part, scores, rows) if row.gold != BACKGROUND]).accuracy

    return {kind: accuracy(part) for kind, part in parts_of(selector).items()}


def _asked(selector: ReleaseSelector, scores: "SelectorScores") -> dict[str, float]:
    """The share of rows that the light selector, the language model, or both together decided."""
    from services.trainer.evaluation.selector import selections

    asked = Counter(said.by for said in selections(selector, scores))
    return {by: rows / asked.total() for by, rows in asked.items()}


def _all(rows: Rows) -> Sequence[str]:
    return [row.input for own in rows.values() for row in own]


def _gold(rows: Rows) -> list[str]:
    return [label for label, own in rows.items() for _ in own]
