"""The jobs `selector.*`: rows in, a judged candidate release out."""

from typing import Any

from services.trainer.context import SelectorContext
from services.trainer.selector.fit import fit_selector
from services.trainer.selector.inputs import inputs_of, trained_like_parent
from services.trainer.selector.judge import JudgedSelector, calibrate_selector, judge_selector
from services.trainer.selector.plan import plan_of
from services.trainer.selector.publish import promote, publish, published_before
from services.trainer.selector.retention_search import search_retention
from services.trainer.selector.updates import select_data
from services.trainer.selector.worth import settle_kind
from shared.contracts.manifests import Release

_RESULT_FIELDS = ("warnings", "kind_chosen", "retention", "curve", "easy", "hard", "deleted")
"""Fields of the report that the job's result repeats, as far as the job's kind has them."""


def train_selector(context: SelectorContext) -> dict[str, Any]:
    """Make a candidate release, or take the one that a killed attempt has published; promote it where asked to."""
    release = published_before(context) or retrain(context)
    return _result(release, *promote(context, release))


def retrain(context: SelectorContext) -> Release:
    """Select data, plan, fit, calibrate, judge and publish (paper, sections 3.3 and 3.4)."""
    inputs = inputs_of(context)
    context = trained_like_parent(context, inputs)
    data = select_data(context, inputs)
    context = context.settled()
    plan = settle_kind(context, plan_of(context, inputs, data))

    def make_selector(retention: float) -> JudgedSelector:
        fitted = fit_selector(context, plan, retention)
        calibrated = calibrate_selector(context, plan, fitted)
        return judge_selector(context, plan, calibrated)

    return publish(context, plan, search_retention(context, plan, make_selector))


def _result(release: Release, promoted: bool, why: str) -> dict[str, Any]:
    assert release.selector is not None
    return {
        "release": release.id,
        "promoted": promoted,
        "why": why,
        "accuracy": round(release.report["accuracy"], 4),
        "accuracy_interval": release.report["intervals"]["accuracy"],
        "per_label": release.report["per_label"],
        "selector": release.selector.kind,
        "threshold": release.selector.threshold,
        "verdict": release.verdict.model_dump(),
        **{name: release.report[name] for name in _RESULT_FIELDS if name in release.report},
    }
