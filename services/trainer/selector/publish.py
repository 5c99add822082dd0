"""A candidate release: put together, stored, and promoted where the job asks for it."""

from typing import Any, NamedTuple

from services.trainer.context import SelectorContext
from services.trainer.selector.adapters import release_labels
from services.trainer.selector.data import Rows, SelectorData
from services.trainer.selector.fit import trains_head
from services.trainer.selector.judge import JudgedSelector
from services.trainer.selector.plan import Plan
from services.trainer.selector.reading import settle_reading
from services.trainer.selector.rebase import moved_labels, rebase_of, report_of_move
from shared.contracts.manifests import Release, ReleaseLabel, TrainedAs
from shared.contracts.training import SelectorAdd, SelectorTrain
from shared.errors import Conflict


class Promotion(NamedTuple):
    """Whether a release became the current one, and why."""

    promoted: bool
    why: str


def published_before(context: SelectorContext) -> Release | None:
    """The release that an earlier attempt of the job has published."""
    releases = context.registry.releases.list_all(context.job.tenant_id)
    return next((release for release in releases if release.made_by == context.job.id), None)


def publish(context: SelectorContext, plan: Plan, judged: JudgedSelector) -> Release:
    """Store the candidate release with its labels and sets; waits for adapters that are still in training."""
    labels = _labels(context, plan)
    reading = settle_reading(context, plan, judged.selector)
    context.check()
    context.report("publishing")
    sets = plan.data.sets
    release = Release(
        tenant_id=context.job.tenant_id,
        parent=plan.parent.id if plan.parent else "",
        base_model=context.clients.base_model,
        base_manifest=context.clients.base_manifest,
        labels=labels,
        selector=judged.selector,
        reject_policy=plan.reject_policy,
        reading=reading,
        ambiguous=plan.ambiguous,
        representation=_stored(context, sets.representation),
        validation=_stored(context, sets.validation),
        datasets=dict(plan.data.datasets),
        report={
            **judged.report,
            **_trained_as(context, plan, judged),
            **_kept_rows(context, judged),
            "feedback_rows": _feedback_rows(plan.data),
            **_chosen_as(context),
            **report_of_move(context, plan.parent, plan.adapters),
        },
        verdict=judged.verdict,
        made_by=context.job.id,
    )
    context.registry.releases.add(release)
    return release


def promote(context: SelectorContext, release: Release) -> Promotion:
    """Make the release current where the job asks for it and the registry allows it."""
    if not context.body.promote:
        return Promotion(promoted=False, why="promotion was not asked for")
    job, registry = context.job, context.registry
    try:
        if not registry.releases.was_current(release):  # an attempt may die right after it promoted
            registry.releases.promote(job.tenant_id, release.id, by=job.id, attempt=job)
    except Conflict as error:
        return Promotion(promoted=False, why=error.detail)
    return Promotion(
        promoted=True, why="the gate passed" if release.verdict.passed else "somebody promoted it with force"
    )


def _labels(context: SelectorContext, plan: Plan) -> dict[str, ReleaseLabel]:
    """The entries of labels that the parent has too, as they are, and those of the new labels."""
    if plan.parent and rebase_of(context):
        return moved_labels(context, plan.parent, plan.adapters)
    body, old = context.body, dict(plan.parent.labels) if plan.parent else {}
    stay = plan.kept_names | (set(plan.data.sets.representation) if plan.start_from else set())
    labels = {label: entry for label, entry in old.items() if label in stay}
    if isinstance(body, SelectorTrain | SelectorAdd):
        made = release_labels(context.with_body(body), plan.adapters)
        labels |= {label: _as_edited(label, entry, old.get(label), body) for label, entry in made.items()}
    return labels


def _as_edited(
    label: str, entry: ReleaseLabel, old: ReleaseLabel | None, body: SelectorTrain | SelectorAdd
) -> ReleaseLabel:
    """A label whose adapter stays keeps what an edit may have set and the job does not say."""
    if old is None or not entry.ref or old.ref != entry.ref:
        return entry
    said = {"group": body.groups, "template": body.templates, "instruction": body.instructions}
    now = {field: values[label] for field, values in said.items() if label in values}
    return old.model_copy(update={**now, "description": entry.description or old.description})


def _trained_as(context: SelectorContext, plan: Plan, judged: JudgedSelector) -> dict[str, Any]:
    if not judged.selector.llm:
        return {}
    noted = TrainedAs(settings=context.body.settings, has_head=trains_head(context, plan))
    return {"trained_as": noted.model_dump(mode="json")}


def _chosen_as(context: SelectorContext) -> dict[str, Any]:
    """How the rows were chosen, for a training from nothing on another base model."""
    if not isinstance(context.body, SelectorTrain):
        return {}
    return {"selection": context.body.selection.model_dump(mode="json", exclude_defaults=True)}


def _kept_rows(context: SelectorContext, judged: JudgedSelector) -> dict[str, Any]:
    put = context.registry.datasets.put_judged
    return {"judged": put(context.job.tenant_id, judged.rows)} if judged.rows else {}


def _feedback_rows(data: SelectorData) -> dict[str, dict[str, int]]:
    """How many rows the selector learnt of each label, and how many of them came from feedback."""
    found = {}
    for label, rows in data.sets.representation.items():
        found[label] = {"rows": len(rows), "from_feedback": min(len(rows), data.from_feedback.get(label, 0))}
    return found


def _stored(context: SelectorContext, sets: Rows) -> dict[str, str]:
    put = context.registry.datasets.put_rows
    return {label: put(context.job.tenant_id, list(rows)) for label, rows in sets.items() if rows}
