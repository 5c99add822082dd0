"""The jobs `selector.train` and `selector.add`: data sets in, a judged candidate release out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.trainer.domain.gate import judge
from services.trainer.domain.metrics import Metrics, measure
from services.trainer.domain.retention import retain
from services.trainer.domain.split import split_by_text
from services.trainer.workshop import Workshop
from shared.attempts import Held
from shared.datasets import Row
from shared.errors import Conflict, Invalid
from shared.jobs import Job
from shared.labels import REJECT, parse_label
from shared.registry import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.registry.registry import check_same_base
from shared.training import SelectorAdd, SelectorTrain

Texts = Mapping[str, Sequence[str]]
Body = SelectorTrain | SelectorAdd


@dataclass(frozen=True, slots=True)
class Plan:
    """What a selector is trained and judged on, by label, and what it grows out of."""

    representation: Texts
    validation: Texts
    training_texts: Texts
    """The representation set of new labels, with the retained share of the old ones."""
    parent: Release | None = None
    labels: Mapping[str, ReleaseLabel] = field(default_factory=dict)

    @property
    def scored_labels(self) -> list[str]:
        """Every label the selector scores, in a stable order."""
        return sorted(self.representation)


@dataclass(frozen=True, slots=True)
class Judged:
    """A trained selector with its calibration and its metrics on the validation rows."""

    selector: ReleaseSelector
    metrics: Metrics
    report: dict[str, Any]


def train_selector(job: Job, held: Held, body: SelectorTrain, workshop: Workshop) -> dict[str, Any]:
    """Select data, train, calibrate, judge, and make a candidate release (paper, section 3.3)."""
    train, validation = _split(job, body, workshop, body.text)
    if len(train) < 2:
        raise Invalid("labels_too_few", "a selector needs two labels, or one label and a background data set")
    representation = _representation(job, body, train, workshop)
    plan = Plan(representation, validation, representation, labels=_release_labels(job, body, workshop))
    return _candidate(job, held, body, plan, workshop)


def add_labels(job: Job, held: Held, body: SelectorAdd, workshop: Workshop) -> dict[str, Any]:
    """Fine-tune the current selector on new labels and a retained share of the old rows (paper, section 3.4, Add)."""
    parent = _current(job, body, workshop)
    assert parent.selector is not None
    train, validation = _split(job, body, workshop, parent.selector.text)
    new = _representation(job, body, train, workshop)
    old = {label: _texts(workshop.registry.get_rows(key)) for label, key in parent.representation.items()}
    old_validation = {label: _texts(workshop.registry.get_rows(key)) for label, key in parent.validation.items()}
    kept = retain(old, body.retention, body.settings.seed) if body.retention else {}
    plan = Plan(
        {**old, **new},
        {**old_validation, **validation},
        {**kept, **new},
        parent,
        {**parent.labels, **_release_labels(job, body, workshop)},
    )
    return _candidate(job, held, body, plan, workshop)


def _candidate(job: Job, held: Held, body: Body, plan: Plan, workshop: Workshop) -> dict[str, Any]:
    weights = _fit(job, held, body, plan, workshop)
    held.check()
    workshop.report(job, "evaluating")
    judged = _judge_selector(weights, body, plan, workshop)
    held.check()
    workshop.report(job, "publishing")
    release = _release(job, body, plan, judged, workshop)
    workshop.registry.add_release(release)
    promoted, why = _promote(job, body, release, workshop)
    return {
        "release": release.id,
        "promoted": promoted,
        "why": why,
        "accuracy": round(judged.metrics.accuracy, 4),
        "per_label": judged.metrics.per_label,
        "threshold": judged.selector.threshold,
        "verdict": release.verdict.model_dump(),
    }


def _split(job: Job, body: Body, workshop: Workshop, text: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Training and validation texts of every data set the job names; none is on both sides."""
    named = dict(body.labels) | ({REJECT: body.background} if body.background else {})
    train, validation = {}, {}
    for label, dataset in sorted(named.items()):
        texts = _texts(workshop.rows(job, dataset, label), with_instruction=text != "input")
        parts = split_by_text(texts, str, body.selection.validation_share, body.settings.seed)
        train[label], validation[label] = parts.train, parts.validation
    return train, validation


def _representation(job: Job, body: Body, train: Texts, workshop: Workshop) -> dict[str, list[str]]:
    """The real rows nearest to the k-means centroids of each label's embedding-layer vectors."""
    from services.trainer.infra.representation import representation_set
    from shared.model.features import EmbeddingTable

    workshop.report(job, "selecting_data", rows=sum(map(len, train.values())))
    return representation_set(
        train,
        workshop.tokenizer,
        EmbeddingTable.from_folder(workshop.base_folder),
        body.selection.rows_per_label,
        distance=body.selection.distance,
        pooling=body.selection.pooling,
        seed=body.settings.seed,
    )


def _fit(job: Job, held: Held, body: Body, plan: Plan, workshop: Workshop) -> Path:
    from services.trainer.infra import fit
    from services.trainer.infra.representation import mixed

    folder = workshop.folder(job)
    parent = plan.parent.selector if plan.parent else None
    return fit.train_selector(
        workshop.base_folder,
        workshop.tokenizer,
        mixed(plan.training_texts, body.settings.seed, equal=parent is None),
        labels=[parse_label(label) for label in plan.scored_labels],
        config=body.settings,
        work_dir=folder,
        hooks=workshop.hooks(job, held, body.kind),
        resume_from=workshop.resume_from(job, folder),
        start_from=workshop.registry.fetch_weights(parent.digest) if parent else None,
    )


def _judge_selector(weights: Path, body: Body, plan: Plan, workshop: Workshop) -> Judged:
    """Calibrate and measure on the validation rows."""
    from services.trainer.infra.select_scores import fit_temperature, fit_threshold, route_rows, score_rows
    from shared.model.merge import merged_selector
    from shared.model.scoring import LabelScorer

    labels = [parse_label(label) for label in plan.scored_labels]
    model = merged_selector(workshop.base_folder, weights, "float32")
    scorer = LabelScorer(model, workshop.tokenizer, labels, body.settings.max_length)
    gold = [label for label, texts in plan.validation.items() for _ in texts]
    scores = score_rows(scorer, [text for texts in plan.validation.values() for text in texts])
    temperature = fit_temperature(scores, [plan.scored_labels.index(label) for label in gold])
    threshold = fit_threshold(scores, labels, gold, temperature, body.max_false_reject)
    measured = measure(route_rows(scores, labels, gold, temperature, threshold.value))
    text = plan.parent.selector.text if plan.parent and plan.parent.selector else getattr(body, "text", "input")
    selector = ReleaseSelector(
        digest=workshop.registry.put_weights(weights),
        labels=tuple(plan.scored_labels),
        temperature=temperature,
        threshold=threshold.value,
        text=text,
    )
    return Judged(selector, measured, {**measured._asdict(), "threshold": threshold._asdict()})


def _release(job: Job, body: Body, plan: Plan, judged: Judged, workshop: Workshop) -> Release:
    before = plan.parent.report.get("per_label") if plan.parent else None
    verdict = judge(before, judged.metrics.per_label, min_accuracy=body.min_accuracy)
    keep = workshop.registry.put_rows
    return Release(
        tenant_id=job.tenant_id,
        parent=plan.parent.id if plan.parent else workshop.registry.current_id(job.tenant_id),
        base_model=workshop.base_model,
        labels=dict(plan.labels),
        selector=judged.selector,
        reject_policy=plan.parent.reject_policy if plan.parent else getattr(body, "reject_policy", "base"),
        representation={n: keep(job.tenant_id, _rows(n, texts)) for n, texts in plan.representation.items()},
        validation={n: keep(job.tenant_id, _rows(n, texts)) for n, texts in plan.validation.items()},
        report=judged.report,
        verdict=Verdict(passed=verdict.passed, reasons=tuple(verdict.sentences)),
        made_by=job.id,
    )


def _promote(job: Job, body: Body, release: Release, workshop: Workshop) -> tuple[bool, str]:
    if not body.promote:
        return False, "promotion was not asked for"
    try:
        workshop.registry.promote(job.tenant_id, release.id, by=job.id)
    except Conflict as error:
        return False, error.detail
    return True, "the gate passed"


def _release_labels(job: Job, body: Body, workshop: Workshop) -> dict[str, ReleaseLabel]:
    """The adapter and group of every label the job names; raises `NotFound`, `Invalid`."""
    found = {}
    for label in body.labels:
        manifest = workshop.registry.adapter(job.tenant_id, body.adapters.get(label, label))
        check_same_base(manifest, workshop.base_model)
        found[label] = ReleaseLabel(
            adapter=manifest.digest,
            ref=manifest.ref,
            group=body.groups.get(label, parse_label(label).domain),
            template=manifest.template,
            instruction=manifest.instruction,
        )
    return found


def _current(job: Job, body: SelectorAdd, workshop: Workshop) -> Release:
    release_id = workshop.registry.current_id(job.tenant_id)
    if not release_id:
        raise Conflict("no_release", "there is no current release to add to; run selector.train first")
    release = workshop.registry.release(job.tenant_id, release_id)
    if release.selector is None:
        raise Conflict("selector_missing", "the current release has no selector to add to; run selector.train first")
    known = set(body.labels) & set(release.labels)
    if known:
        raise Conflict("label_exists", f"the current release has {', '.join(sorted(known))} already")
    return release


def _texts(rows: Sequence[Row], *, with_instruction: bool = False) -> list[str]:
    return [f"{row.instruction}\n{row.input}" if with_instruction and row.instruction else row.input for row in rows]


def _rows(label: str, texts: Sequence[str]) -> list[Row]:
    return [Row(input=text, label=label) for text in texts]
