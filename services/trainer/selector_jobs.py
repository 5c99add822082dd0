"""The jobs `selector.train` and `selector.add`: data sets in, a judged candidate release out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer.domain.gate import judge
from services.trainer.domain.metrics import Metrics, measure
from services.trainer.label_adapters import release_labels
from services.trainer.selector_plans import Body, Plan, Texts, plan_of
from services.trainer.workshop import Workshop
from shared.attempts import Held
from shared.datasets import Row
from shared.errors import Conflict
from shared.jobs import Job
from shared.labels import parse_label
from shared.registry import Release, ReleaseLabel, ReleaseSelector, Verdict

if TYPE_CHECKING:
    from services.trainer.infra.select_scores import Scores


@dataclass(frozen=True, slots=True)
class Judged:
    """A trained selector with its calibration, its metrics on the validation rows, and the gate's answer."""

    selector: ReleaseSelector
    report: dict[str, Any]
    verdict: Verdict


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
        "threshold": release.selector.threshold,
        "verdict": release.verdict.model_dump(),
    }


def _made_before(job: Job, workshop: Workshop) -> Release | None:
    return next((release for release in workshop.registry.releases(job.tenant_id) if release.made_by == job.id), None)


def _candidate(job: Job, held: Held, body: Body, workshop: Workshop) -> Release:
    """Select data, train, calibrate, judge, and store a candidate release (paper, sections 3.3 and 3.4)."""
    plan = plan_of(job, held, body, workshop)
    weights = _fit(job, held, body, plan, workshop)
    labels = release_labels(job, held, body, plan.adapters, workshop)
    held.check()
    workshop.report(job, "evaluating")
    judged = _judge_selector(weights, held, body, plan, workshop)
    held.check()
    workshop.report(job, "publishing")
    release = _release(job, plan, labels, judged, workshop)
    workshop.registry.add_release(release)
    return release


def _fit(job: Job, held: Held, body: Body, plan: Plan, workshop: Workshop) -> Path:
    from services.trainer.infra import fit
    from services.trainer.infra.representation import mixed

    folder = workshop.folder(job)
    old = plan.start_from
    return fit.train_selector(
        workshop.base_folder,
        workshop.tokenizer,
        mixed(plan.training_texts, body.settings.seed, equal=old is None),
        labels=[parse_label(label) for label in plan.scored_labels],
        config=body.settings,
        work_dir=folder,
        hooks=workshop.hooks(job, held, body.kind),
        resume_from=workshop.resume_from(job, folder),
        start_from=workshop.registry.fetch_weights(old.digest) if old else None,
    )


def _judge_selector(weights: Path, held: Held, body: Body, plan: Plan, workshop: Workshop) -> Judged:
    """Calibrate and measure on the validation rows, and compare with the release before."""
    from services.trainer.infra.select_scores import fit_temperature, fit_threshold

    labels = [parse_label(label) for label in plan.scored_labels]
    scores = _scores(weights, plan.scored_labels, plan.validation, held, body, workshop)
    gold = _gold(plan.validation)
    temperature = fit_temperature(scores, [plan.scored_labels.index(label) for label in gold])
    threshold = fit_threshold(scores, labels, gold, temperature, body.max_false_reject)
    selector = ReleaseSelector(
        digest=workshop.registry.put_weights(weights),
        labels=tuple(plan.scored_labels),
        temperature=temperature,
        threshold=threshold.value,
        text=plan.text,
    )
    measured = _measured(scores, selector, plan.validation)
    before = _accuracy_before(plan, held, body, workshop)
    verdict = judge(before, measured.per_label, min_accuracy=body.min_accuracy, max_loss=body.max_loss)
    return Judged(
        selector,
        {**measured._asdict(), "threshold": threshold._asdict(), "before": before},
        Verdict(passed=verdict.passed, reasons=tuple(verdict.sentences)),
    )


def _accuracy_before(plan: Plan, held: Held, body: Body, workshop: Workshop) -> Mapping[str, float] | None:
    """What the parent reaches per kept label on the same rows; None where it has none of the labels."""
    if plan.parent is None or plan.parent.selector is None:
        return None
    if plan.start_from:  # its report was measured on the very rows that come with it
        return plan.parent.report.get("per_label")
    if not plan.kept_validation:
        return None
    selector = plan.parent.selector
    weights = workshop.registry.fetch_weights(selector.digest)
    scores = _scores(weights, selector.labels, plan.kept_validation, held, body, workshop)
    return _measured(scores, selector, plan.kept_validation).per_label


def _scores(weights: Path, labels: Sequence[str], texts: Texts, held: Held, body: Body, workshop: Workshop) -> "Scores":
    """Log-probabilities `[rows, labels]` of a selector on the texts of all labels, one label after the other."""
    from services.trainer.infra.select_scores import score_rows
    from shared.model.merge import merged_selector
    from shared.model.scoring import LabelScorer

    model = merged_selector(workshop.base_folder, weights, "float32")
    parsed = [parse_label(label) for label in labels]
    scorer = LabelScorer(model, workshop.tokenizer, parsed, body.settings.max_length, body.settings.precision)
    return score_rows(scorer, [text for own in texts.values() for text in own], check=held.check)


def _measured(scores: "Scores", selector: ReleaseSelector, texts: Texts) -> Metrics:
    from services.trainer.infra.select_scores import route_rows

    labels = [parse_label(label) for label in selector.labels]
    return measure(route_rows(scores, labels, _gold(texts), selector.temperature, selector.threshold))


def _gold(texts: Texts) -> list[str]:
    return [label for label, own in texts.items() for _ in own]


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
