"""The jobs `selector.*`: rows in, a judged candidate release out."""

from collections.abc import Mapping
from typing import Any

from services.trainer.context import TrainingContext
from services.trainer.selector.adapters import release_labels
from services.trainer.selector.data import Rows
from services.trainer.selector.judge import Judged
from services.trainer.selector.plan import Plan, inputs_of, plan_training
from services.trainer.selector.retention_search import best_selector
from services.trainer.selector.updates import plan_update
from shared.contracts.jobs import Job
from shared.contracts.manifests import Release, ReleaseLabel
from shared.contracts.training import SelectorAdd, SelectorBody, SelectorTrain
from shared.errors import Conflict
from shared.worker.leases import HeldJob

_SHOWN = ("warnings", "retention", "curve", "easy", "hard", "deleted")
"""Of the report, as far as the job's kind has them."""


def make_release(job: Job, held: HeldJob, body: SelectorBody, context: TrainingContext) -> dict[str, Any]:
    """Make a candidate release, or take the one that a killed attempt has made, and promote it where asked to."""
    release = _made_before(job, context) or _candidate(job, held, body, context)
    promoted, why = _promote(job, body, release, context)
    assert release.selector is not None
    return {
        "release": release.id,
        "promoted": promoted,
        "why": why,
        "accuracy": round(release.report["accuracy"], 4),
        "per_label": release.report["per_label"],
        "selector": release.selector.kind,
        "threshold": release.selector.threshold,
        "verdict": release.verdict.model_dump(),
        **{name: release.report[name] for name in _SHOWN if name in release.report},
    }


def _made_before(job: Job, context: TrainingContext) -> Release | None:
    return next(
        (release for release in context.registry.releases.list_all(job.tenant_id) if release.made_by == job.id), None
    )


def _candidate(job: Job, held: HeldJob, body: SelectorBody, context: TrainingContext) -> Release:
    """Select data, train, calibrate, judge, and store a candidate release (paper, sections 3.3 and 3.4)."""
    plan = plan_of(job, held, body, context)
    judged = best_selector(job, held, body, plan, context)
    labels = _release_labels(job, held, body, plan, context)
    held.check()
    context.report(job, "publishing")
    release = _release(job, plan, labels, judged, context)
    context.registry.releases.add(release)
    return release


def plan_of(job: Job, held: HeldJob, body: SelectorBody, context: TrainingContext) -> Plan:
    """Read the job's rows and choose the representation set among them."""
    inputs = inputs_of(job, body, context)
    if isinstance(body, SelectorTrain):
        return plan_training(job, held, body, inputs, context)
    return plan_update(job, held, body, inputs, context)


def _release_labels(
    job: Job, held: HeldJob, body: SelectorBody, plan: Plan, context: TrainingContext
) -> dict[str, ReleaseLabel]:
    """The labels that stay as they are in the parent, and the new ones."""
    kept = plan.parent.labels if plan.parent and plan.start_from else {}
    labels = {label: entry for label, entry in kept.items() if label in plan.sets.representation}
    if isinstance(body, SelectorTrain | SelectorAdd):
        labels |= release_labels(job, held, body, plan.adapters, context)
    return labels


def _release(
    job: Job, plan: Plan, labels: Mapping[str, ReleaseLabel], judged: Judged, context: TrainingContext
) -> Release:
    def stored(sets: Rows) -> dict[str, str]:
        return {label: context.registry.datasets.put_rows(job.tenant_id, list(rows)) for label, rows in sets.items()}

    return Release(
        tenant_id=job.tenant_id,
        parent=plan.parent.id if plan.parent else "",
        base_model=context.base_model,
        base_manifest=context.base_manifest,
        labels=dict(labels),
        selector=judged.selector,
        reject_policy=plan.reject_policy,
        representation=stored(plan.sets.representation),
        validation=stored(plan.sets.validation),
        datasets=dict(plan.datasets),
        report=judged.report,
        verdict=judged.verdict,
        made_by=job.id,
    )


def _promote(job: Job, body: SelectorBody, release: Release, context: TrainingContext) -> tuple[bool, str]:
    if not body.promote:
        return False, "promotion was not asked for"
    try:
        if not context.registry.releases.was_current(release):  # an attempt may die right after it promoted
            context.registry.releases.promote(job.tenant_id, release.id, by=job.id, attempt=job)
    except Conflict as error:
        return False, error.detail
    return True, "the gate passed" if release.verdict.passed else "somebody promoted it with force"
