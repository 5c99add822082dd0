"""What a rebase would do with each label and with the selector; nothing is written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from services.api.infra.clients import Clients
from services.api.rebases.adapters import Known, training_again
from services.api.rebases.schemas import Fate, LabelPlan, RebasePlan, RebaseRequest
from services.api.training.cost import Quote, quote
from services.api.training.service import AdapterTrainRequest, check_settings, check_template, pin
from shared.adapter_files import AdapterLimits, BaseShapes
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import BaseModelManifest, Release
from shared.errors import Invalid, NotFound

RowsFrom = Literal["data set", "release"]
_SHOWN = 5
"""Labels whose problem is told in one sentence; the plan has them all."""


class Move(NamedTuple):
    """A release, and the base model that it is moved to."""

    tenant_id: str
    release: Release
    base: BaseModelManifest
    request: RebaseRequest


class Planned(NamedTuple):
    """One label of the plan, and the training of its adapter where it can be trained."""

    shown: LabelPlan
    training: AdapterTrainRequest | None


class Plan(NamedTuple):
    """The whole plan, as it is shown and as it is begun."""

    shown: RebasePlan
    trainings: dict[str, AdapterTrainRequest]

    def labels(self, *fates: Fate) -> list[str]:
        """Return the labels with one of these fates."""
        return [one.label for one in self.shown.labels if one.fate in fates]


def plan(clients: Clients, move: Move, jobs: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Plan a rebase; `jobs` holds bodies of the jobs that trained its adapters, by label. Blocking.

    Raises `Unavailable`.
    """
    planned = [_label(clients, move, label, jobs.get(label)) for label in sorted(move.release.labels)]
    shown = [one.shown for one in planned]
    trainings = {one.shown.label: one.training for one in planned if one.training and one.shown.fate == "train"}
    rows = selector_rows(clients, move, [one.label for one in shown if one.fate != "leave_out"])
    seconds = [one.seconds for one in shown if one.fate == "train"]
    memory = [one.memory_bytes for one in shown if one.fate == "train" and one.memory_bytes]
    selector = move.release.selector
    return Plan(
        RebasePlan(
            release=move.release.id,
            from_base=move.release.base_model,
            base_model=move.base.id,
            base_name=move.base.name,
            labels=shown,
            selector=selector.kind if selector else "",
            selector_rows=rows,
            seconds=sum(one for one in seconds if one) if all(one is not None for one in seconds) else None,
            memory_bytes=max(memory, default=None),
            problems=list(_problems(move, shown, rows)),
            warnings=[],
        ),
        trainings,
    )


def selector_rows(clients: Clients, move: Move, labels: Sequence[str]) -> dict[str, RowsFrom]:
    """Return where the selector's rows of each label come from; labels without any are left out."""
    release = move.release
    found: dict[str, RowsFrom] = {}
    for label in [*(label for label in labels if label in release.selected_labels), BACKGROUND]:
        if _stored(clients, move.tenant_id, release.datasets.get(label, "")):
            found[label] = "data set"
        elif release.representation.get(label):
            found[label] = "release"
    return found


def _label(clients: Clients, move: Move, label: str, job: Mapping[str, Any] | None) -> Planned:
    entry = move.release.labels[label]
    try:
        manifest = clients.registry.adapters.get(move.tenant_id, entry.ref)
    except NotFound:
        manifest = None
    known = Known(entry, manifest, job)
    if move.release.base_of(label) == move.base.id:
        return Planned(_shown(move, label, known, "stay"), None)
    dataset = move.request.datasets.get(label) or known.dataset
    try:
        training, cost = _training(clients, move, label, known, dataset)
    except (Invalid, NotFound) as error:
        fate: Fate = "refuse" if move.request.missing == "refuse" else move.request.missing
        return Planned(_shown(move, label, known, fate, problem=error.detail), None)
    stored = clients.registry.datasets.get(move.tenant_id, training.dataset)
    return Planned(
        _shown(
            move,
            label,
            known,
            "train",
            dataset=stored.id,
            rows=stored.count_for(label),
            template=training.settings.template,
            settings_from=known.source,
            seconds=cost.estimate.seconds if cost.estimate else None,
            memory_bytes=cost.memory.total if cost.memory else None,
            needs_confirmation=cost.needs_confirmation and not move.request.confirm_cost,
        ),
        training,
    )


def _shown(move: Move, label: str, known: Known, fate: Fate, **more: Any) -> LabelPlan:
    usual = {
        "problem": "",
        "dataset": "",
        "rows": 0,
        "template": known.entry.template,
        "settings_from": "",
        "seconds": None,
        "memory_bytes": None,
        "needs_confirmation": False,
    }
    return LabelPlan(label=label, fate=fate, adapter=move.release.labels[label].ref, **usual | more)


def _training(
    clients: Clients, move: Move, label: str, known: Known, dataset: str
) -> tuple[AdapterTrainRequest, Quote]:
    """Return the training of an adapter with its names pinned, and what it takes; raises `Invalid`, `NotFound`."""
    if not dataset and known.manifest and known.manifest.parts:
        parts = ", ".join(part.ref or part.digest[:12] for part in known.manifest.parts)
        raise Invalid(
            "adapter_composed",
            f"its adapter is composed of {parts}: train and compose these on the new base model, or name a data set to "
            f"train it on alone, {_named(label)}",
        )
    if not dataset:
        raise Invalid("dataset_unknown", f"nothing tells which data set trained its adapter: name one, {_named(label)}")
    if not _stored(clients, move.tenant_id, dataset):
        raise NotFound("dataset_not_found", f"its data set {dataset} is gone: name another one, {_named(label)}")
    asked = training_again(
        label,
        known,
        move.base,
        dataset=dataset,
        template=_template(clients, move, label, known),
        confirm_cost=move.request.confirm_cost,
    )
    if asked.validation and not _stored(clients, move.tenant_id, asked.validation):
        asked = asked.model_copy(update={"validation": None})
    training = pin(clients, move.tenant_id, asked)
    assert isinstance(training, AdapterTrainRequest)
    check_settings(training, BaseShapes(move.base.shapes), AdapterLimits.of(clients.settings))
    return training, quote(clients, move.tenant_id, training, move.base)


def _template(clients: Clients, move: Move, label: str, known: Known) -> str:
    """Return the template of a label's prompts on the new base model; raises `Invalid` where none fits."""
    request, own = move.request, known.manifest.template if known.manifest else known.entry.template
    named = request.templates.get(label)
    try:
        check_template(clients, move.tenant_id, named or own, move.base)
    except Invalid as error:
        if named is None and request.template:
            check_template(clients, move.tenant_id, request.template, move.base)
            return request.template
        usual = move.base.usual_template
        raise Invalid(
            error.code,
            f"{error.detail.rstrip('.')}; name a template that fits, --template {label}={usual}, or --template {usual} "
            "for all such labels",
        ) from error
    return named or own


def _problems(move: Move, labels: Sequence[LabelPlan], rows: Mapping[str, RowsFrom]) -> Iterator[str]:
    """Why a rebase cannot begin like this; of labels, the first ones say it."""
    refused = [one for one in labels if one.fate == "refuse"]
    if refused:
        named = "; ".join(f"{one.label}: {one.problem}" for one in refused[:_SHOWN])
        yield f"{named}; or choose what becomes of such labels, --missing leave-out or --missing keep"
    if costly := [one.label for one in labels if one.needs_confirmation]:
        yield f"{', '.join(costly)}: above the operator's limit of time; confirm it with --yes (`confirm_cost`)"
    selected = {one.label for one in labels if one.fate not in ("leave_out", "refuse")} & move.release.selected_labels
    described = {label for label, entry in move.release.labels.items() if entry.description}
    if bare := sorted(selected - set(rows) - (described if _takes_descriptions(move.release) else set())):
        yield f"the selector has no rows of {', '.join(bare)}: upload a data set, and train the selector on it first"
    if len(selected) + (BACKGROUND in rows) < 2 and not refused:
        yield f"{len(selected)} labels are left, and a selector needs two: name data sets for the others, --dataset"


def _takes_descriptions(release: Release) -> bool:
    return release.selector is not None and bool(release.selector.prototypes)


def _stored(clients: Clients, tenant_id: str, dataset: str) -> bool:
    try:
        return bool(dataset) and clients.registry.datasets.get(tenant_id, dataset) is not None
    except (Invalid, NotFound):
        return False


def _named(label: str) -> str:
    return f"--dataset {label}=NAME"
