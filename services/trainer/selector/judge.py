"""A fitted selector, calibrated and judged against the release before it (paper, section 3.3)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from services.trainer.context import SelectorContext
from services.trainer.evaluation.calibration import CalibrationTarget, Threshold
from services.trainer.selector.data import Rows
from services.trainer.selector.few_rows import few_rows_warnings, more_rows, needs_more, with_few
from services.trainer.selector.plan import Plan
from services.trainer.selector.prototypes import description_warnings, left_out
from services.trainer.selector.rebase import rebase_of
from shared.contracts import gate
from shared.contracts.judged import JudgedRow
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseSelector, Verdict
from shared.contracts.routing import Routed, calibration, fates, intervals, measure

if TYPE_CHECKING:
    from services.trainer.evaluation.selector import SelectorScorer, SelectorScores


class CalibratedSelector(NamedTuple):
    """A selector with its weights and thresholds, and the label scores of the rows that it is judged on."""

    selector: ReleaseSelector
    threshold: Threshold
    rows: Rows
    scores: "SelectorScores"


class JudgedSelector(BaseModel):
    """A calibrated selector, its metrics on the validation rows, and the verdict of the gate."""

    model_config = ConfigDict(frozen=True)

    selector: ReleaseSelector
    report: dict[str, Any]
    verdict: Verdict
    rows: tuple[JudgedRow, ...] = ()
    """Some of the rows that it was judged on; none in what an earlier version judged."""


def calibrate_selector(context: SelectorContext, plan: Plan, selector: ReleaseSelector) -> CalibratedSelector:
    """Fit the selector's weights and thresholds on the validation rows, and on more rows where these are few.

    Prototypes consist of all rows: they are calibrated on each row without it.
    """
    from services.trainer.evaluation.fit_calibration import calibrate
    from services.trainer.evaluation.selector import joined_scores

    body, validation = context.body, plan.data.sets.validation
    context.check()
    context.report("evaluating")
    target = CalibrationTarget(
        body.max_false_reject,
        body.background_reject,
        min_llm_share=body.min_llm_share,
        max_llm_share=body.max_llm_share,
    )
    if selector.prototypes:
        rows, scores = left_out(context, plan)
    else:
        rows, scores = validation, selector_scorer(context).score(selector, _texts(validation))
    known, gold = scores, _gold(rows)
    if selector.kind == "light" and needs_more(validation):
        more, gold_of_more = more_rows(context, plan.data.sets.representation)
        known, gold = joined_scores(scores, more), gold + gold_of_more
    return CalibratedSelector(*calibrate(selector, known, gold, target), rows, scores)


def judge_selector(context: SelectorContext, plan: Plan, calibrated: CalibratedSelector) -> JudgedSelector:
    """Measure the selector on the rows that it is judged on, and compare it with the release before."""
    selector, threshold, rows, scores = calibrated
    body = context.body
    routed = _routed(selector, scores, rows)
    metrics, bounds = measure(routed), intervals(routed)
    before = _accuracy_before(context, plan)
    had = set(plan.parent.labels) if plan.parent else set()
    verdict = gate.judge(
        before,
        metrics.per_label,
        min_accuracy=body.min_accuracy,
        max_loss=body.max_loss,
        lost=had - set(plan.data.labels) - plan.kept_names - set(body.dropped),
        rows={label: len(own) for label, own in rows.items()},
        **(_doubts(plan, rows, bounds["per_label"]) if selector.prototypes else {}),
    )
    report = {
        **metrics._asdict(),
        "intervals": bounds,
        "calibration": [cell._asdict() for cell in calibration(routed)],
        "threshold": threshold._asdict(),
        "before": before,
        "asked": _shares_of_deciders(selector, scores),
        "parts": _accuracy_of_parts(selector, scores, rows),
        **plan.data.notes,
    }
    few = few_rows_warnings(rows, plan.data.labels, metrics.per_label, bounds["per_label"])
    about = description_warnings(context, plan) if selector.prototypes else ()
    report["warnings"] = [*report.get("warnings", ()), *few, *about]
    if plan.data.deleted:
        report["deleted"] = _fates_of_deleted(context, selector, plan.data.deleted)
    return JudgedSelector(
        selector=selector,
        report=report,
        verdict=Verdict(passed=verdict.passed, reasons=tuple(verdict.sentences)),
        rows=_judged_rows(selector, scores, rows),
    )


def _doubts(plan: Plan, rows: Rows, bounds: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """What few rows leave open: the best accuracy that a label may have, and the labels that have no rows at all."""
    few = {label: bounds[label][1] for label in with_few(rows, plan.data.labels) if label in bounds}
    return {"at_best": few, "unmeasured": set(plan.data.labels) - set(rows) - {BACKGROUND}}


def _fates_of_deleted(context: SelectorContext, selector: ReleaseSelector, deleted: Rows) -> dict[str, Any]:
    """Where the texts of deleted labels go, by label."""
    scores = selector_scorer(context).score(selector, _texts(deleted))
    return {label: fate._asdict() for label, fate in fates(_routed(selector, scores, deleted)).items()}


def _accuracy_before(context: SelectorContext, plan: Plan) -> Mapping[str, float] | None:
    """The parent's accuracy by kept label on the same rows; None where it has none of the labels.

    An update takes the validation rows over, and with them what its parent reached on them.
    """
    if plan.parent is None or plan.parent.selector is None:
        return None
    keeps_rows = plan.start_from or plan.parent.selector.prototypes  # these consist of the rows, and know them all
    if keeps_rows and plan.parent.accuracy_of:
        return plan.parent.accuracy_of
    kept = plan.data.kept_validation
    if not kept:
        return _accuracy_noted(context, plan, plan.parent)
    selector = plan.parent.selector
    scores = selector_scorer(context).score(selector, _texts(kept))
    return measure(_routed(selector, scores, kept)).per_label


def _accuracy_noted(context: SelectorContext, plan: Plan, parent: Release) -> Mapping[str, float] | None:
    """What a parent on another base model reached, of the labels whose validation rows are the same."""
    if not rebase_of(context):
        return None
    put, rows = context.registry.datasets.put_rows, plan.data.sets.validation
    same = {
        label: accuracy
        for label, accuracy in parent.accuracy_of.items()
        if rows.get(label) and parent.validation.get(label) == put(context.job.tenant_id, list(rows[label]))
    }
    return same or None


def selector_scorer(context: SelectorContext) -> "SelectorScorer":
    """Return what scores texts with a stored selector, in this job."""
    from services.trainer.evaluation.selector import SelectorScorer

    clients = context.clients
    return SelectorScorer(
        clients.registry,
        clients.base_folder,
        clients.tokenizer,
        context.body.settings.max_length,
        check=context.check,
        encoder_folder=clients.encoder_folder,
    )


def _routed(selector: ReleaseSelector, scores: "SelectorScores", rows: Rows) -> list[Routed]:
    from services.trainer.evaluation.selector import route_rows

    return route_rows(selector, scores, _gold(rows))


def _judged_rows(selector: ReleaseSelector, scores: "SelectorScores", rows: Rows) -> tuple[JudgedRow, ...]:
    from services.trainer.evaluation.judged import judged_rows

    return judged_rows(selector, scores, rows)


def _accuracy_of_parts(selector: ReleaseSelector, scores: "SelectorScores", rows: Rows) -> dict[str, float]:
    """Accuracy of the selector and of each of its parts on the rows of labels, where nothing is rejected."""
    from services.trainer.evaluation.selector import parts_of

    def accuracy(part: ReleaseSelector) -> float:
        return measure([row for row in _routed(part, scores, rows) if row.gold != BACKGROUND]).accuracy

    return {kind: accuracy(part) for kind, part in parts_of(selector).items()}


def _shares_of_deciders(selector: ReleaseSelector, scores: "SelectorScores") -> dict[str, float]:
    """The share of rows that the light selector, the language model, or both together decided."""
    from services.trainer.evaluation.selector import selections

    counts = Counter(selection.by for selection in selections(selector, scores))
    return {by: rows / counts.total() for by, rows in counts.items()}


def _texts(rows: Rows) -> Sequence[str]:
    return [row.input for own in rows.values() for row in own]


def _gold(rows: Rows) -> list[str]:
    return [label for label, own in rows.items() for _ in own]
