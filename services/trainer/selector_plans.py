"""What a selector job works on: its rows by label, its labels' adapters, and the release it would replace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from services.trainer.domain.retention import retain
from services.trainer.domain.split import split_by_text
from services.trainer.label_adapters import known_adapters
from services.trainer.workshop import Workshop
from shared.attempts import Held
from shared.datasets import Row
from shared.errors import Conflict, Invalid
from shared.jobs import Job
from shared.labels import REJECT
from shared.registry import Release, ReleaseSelector, SelectorKind
from shared.training import Readout, SelectorAdd, SelectorTrain

Texts = Mapping[str, Sequence[str]]
Body = SelectorTrain | SelectorAdd
Reading = Literal["input", "instruction+input"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a selector is trained and judged on, by label, and what it grows out of."""

    representation: Texts
    validation: Texts
    training_texts: Texts
    """The representation set of new labels, with the retained share of the old ones."""
    adapters: Mapping[str, str]
    """Versions of the new labels' adapters, as far as they were there when the job began."""
    kind: SelectorKind
    readout: Readout
    """Of a language model's part that is trained from nothing; a grown one keeps what it has."""
    text: Reading
    reject_policy: Literal["base", "error"]
    parent: Release | None = None
    """The release that the candidate would replace."""
    start_from: ReleaseSelector | None = None
    """The selector that is fine-tuned again; None trains one from nothing."""
    kept_validation: Texts = field(default_factory=dict)
    """The validation rows of labels that the parent has too, as its selector reads them."""

    @property
    def scored_labels(self) -> list[str]:
        """Every label the selector scores, in a stable order."""
        return sorted(self.representation)


class Inputs(NamedTuple):
    """What the names in a job meant when its first attempt began."""

    parent: Release | None
    adapters: dict[str, str]


def plan_of(job: Job, held: Held, body: Body, workshop: Workshop) -> Plan:
    """Read the job's rows and choose the representation set among them (paper, sections 3.3 and 3.4)."""
    inputs = _inputs(job, body, workshop)
    if isinstance(body, SelectorTrain):
        return _plan_training(job, held, body, inputs, workshop)
    return _plan_addition(job, held, body, inputs, workshop)


def _plan_training(job: Job, held: Held, body: SelectorTrain, inputs: Inputs, workshop: Workshop) -> Plan:
    train, validation = _split(job, body, workshop, body.text)
    if len(train) < 2:
        raise Invalid("labels_too_few", "a selector needs two labels, or one label and a background data set")
    representation = _representation(job, held, body, _texts(train, body.text), workshop)
    parent = inputs.parent
    selector = parent.selector if parent and parent.base_model == workshop.base_model else None
    kept = {label: rows for label, rows in validation.items() if selector and label in set(selector.labels) - {REJECT}}
    return Plan(
        representation,
        _texts(validation, body.text),
        representation,
        inputs.adapters,
        body.selector,
        body.readout,
        body.text,
        body.reject_policy,
        parent,
        kept_validation=_texts(kept, selector.text) if selector else {},
    )


def _plan_addition(job: Job, held: Held, body: SelectorAdd, inputs: Inputs, workshop: Workshop) -> Plan:
    parent, selector = _growing(body, inputs.parent)
    train, validation = _split(job, body, workshop, selector.text)
    new = _representation(job, held, body, _texts(train, selector.text), workshop)
    old = {label: _stored(workshop, key) for label, key in parent.representation.items()}
    old_validation = {label: _stored(workshop, key) for label, key in parent.validation.items()}
    kept = retain(old, body.retention, body.settings.seed) if body.retention else {}
    return Plan(
        {**old, **new},
        {**old_validation, **_texts(validation, selector.text)},
        {**kept, **new},
        inputs.adapters,
        selector.kind,
        "auto",
        selector.text,
        parent.reject_policy,
        parent,
        start_from=selector,
    )


def _inputs(job: Job, body: Body, workshop: Workshop) -> Inputs:
    """The parent and the adapter of every label, the same for all attempts; raises `NotFound`, `Invalid`."""
    registry = workshop.registry

    def meant_now() -> dict[str, Any]:
        adapters = known_adapters(job, body, workshop)
        return {"parent": body.parent or registry.current_id(job.tenant_id), "adapters": adapters}

    meant = workshop.checkpoints(job).begun_with(meant_now)
    parent = registry.release(job.tenant_id, meant["parent"]) if meant["parent"] else None
    return Inputs(parent, meant["adapters"])


def _growing(body: SelectorAdd, parent: Release | None) -> tuple[Release, ReleaseSelector]:
    """The release to add to, and its selector; raises `Conflict`."""
    if parent is None:
        raise Conflict("no_release", "there is no current release to add to; run selector.train first")
    if parent.selector is None:
        raise Conflict("selector_missing", "the current release has no selector to add to; run selector.train first")
    known = set(body.labels) & set(parent.labels)
    if known:
        raise Conflict("label_exists", f"the current release has {', '.join(sorted(known))} already")
    return parent, parent.selector


def _split(
    job: Job, body: Body, workshop: Workshop, reading: Reading
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Training and validation rows of every data set the job names; no text is on both sides."""
    train, validation = {}, {}
    for label, dataset in sorted(body.datasets.items()):
        rows = workshop.rows(job, dataset, label)
        parts = split_by_text(
            rows, lambda row: as_text(row, reading), body.selection.validation_share, body.settings.seed
        )
        train[label], validation[label] = parts.train, parts.validation
    return train, validation


def _representation(job: Job, held: Held, body: Body, train: Texts, workshop: Workshop) -> dict[str, list[str]]:
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
        check=held.check,
    )


def as_text(row: Row, reading: Reading) -> str:
    """What a selector reads of a row: its input alone, or its instruction and it."""
    return f"{row.instruction}\n{row.input}" if reading != "input" and row.instruction else row.input


def _texts(rows: Mapping[str, Sequence[Row]], reading: Reading) -> dict[str, list[str]]:
    return {label: [as_text(row, reading) for row in own] for label, own in rows.items()}


def _stored(workshop: Workshop, key: str) -> list[str]:
    return [row.input for row in workshop.registry.get_rows(key)]
