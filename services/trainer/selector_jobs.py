"""The jobs `selector.train` and `selector.add`: data sets in, a judged candidate release out."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.trainer.label_adapters import release_labels
from services.trainer.selector_models import Judged, judge_selector, train_selector
from services.trainer.selector_plans import Body, Plan, plan_of
from services.trainer.workshop import Workshop
from shared.attempts import Held
from shared.datasets import Row
from shared.errors import Conflict
from shared.jobs import Job
from shared.registry import Release, ReleaseLabel


def make_release(job: Job, held: Held, body: Body, workshop: Workshop) -> dict[str, Any]:
    """Make a candidate release, or take the one that a killed attempt has made, and promote it where asked to."""
    release = _made_before(job, workshop) or _candidate(job, held, body, workshop)
    promoted, why = _promote(job, body, release, workshop)
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
    }


def _made_before(job: Job, workshop: Workshop) -> Release | None:
    return next((release for release in workshop.registry.releases(job.tenant_id) if release.made_by == job.id), None)


def _candidate(job: Job, held: Held, body: Body, workshop: Workshop) -> Release:
    """Select data, train, calibrate, judge, and store a candidate release (paper, sections 3.3 and 3.4)."""
    plan = plan_of(job, held, body, workshop)
    selector = train_selector(job, held, body, plan, workshop)
    labels = release_labels(job, held, body, plan.adapters, workshop)
    held.check()
    workshop.report(job, "evaluating")
    judged = judge_selector(selector, held, body, plan, workshop)
    held.check()
    workshop.report(job, "publishing")
    release = _release(job, plan, labels, judged, workshop)
    workshop.registry.add_release(release)
    return release


def _release(job: Job, plan: Plan, labels: Mapping[str, ReleaseLabel], judged: Judged, workshop: Workshop) -> Release:
    kept = plan.parent.labels if plan.parent and plan.start_from else {}
    keep = workshop.registry.put_rows
    return Release(
        tenant_id=job.tenant_id,
        parent=plan.parent.id if plan.parent else "",
        base_model=workshop.base_model,
        labels={**kept, **labels},
        selector=judged.selector,
        reject_policy=plan.reject_policy,
        representation={n: keep(job.tenant_id, _rows(n, texts)) for n, texts in plan.representation.items()},
        validation={n: keep(job.tenant_id, _rows(n, texts)) for n, texts in plan.validation.items()},
        report=judged.report,
        verdict=judged.verdict,
        made_by=job.id,
    )


def _rows(label: str, texts: Sequence[str]) -> list[Row]:
    return [Row(input=text, label=label) for text in texts]


def _promote(job: Job, body: Body, release: Release, workshop: Workshop) -> tuple[bool, str]:
    if not body.promote:
        return False, "promotion was not asked for"
    try:
        if not workshop.registry.was_current(release):  # an attempt may die right after it promoted
            workshop.registry.promote(job.tenant_id, release.id, by=job.id, attempt=job)
    except Conflict as error:
        return False, error.detail
    return True, "the gate passed" if release.verdict.passed else "somebody promoted it with force"
