"""What a selector job works on: its rows by label, its labels' adapters, and the release it would replace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from services.trainer.context import TrainingContext
from services.trainer.selector.adapters import known_adapters
from services.trainer.selector.data import Rows, Sets, as_read, data_notes, joined, sets_of, split_rows
from services.trainer.selector.retention import retain
from shared.contracts.jobs import Job
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release, ReleaseSelector, SelectorKind, SelectorText
from shared.contracts.rows import Row
from shared.contracts.training import Readout, SelectorAdd, SelectorBody, SelectorTrain
from shared.errors import Invalid
from shared.worker.leases import HeldJob


@dataclass(frozen=True, slots=True)
class Plan:
    """What a selector is trained and judged on, by label, and what it grows out of."""

    sets: Sets
    """What the release keeps; the light selector learns from all of it, whatever the language model is shown."""
    fresh: Rows
    """What the language model is shown in full."""
    old: Rows
    """What it is shown in the retained share alone."""
    datasets: Mapping[str, str]
    """Data set that each label's rows came from, as far as it is known."""
    adapters: Mapping[str, str]
    """Versions of the new labels' adapters, as far as they were there when the job began."""
    kind: SelectorKind
    readout: Readout
    """Of a language model's part that is trained from nothing; a grown one keeps what it has."""
    text: SelectorText
    reject_policy: Literal["base", "error"]
    parent: Release | None = None
    """The release that the candidate would replace."""
    start_from: ReleaseSelector | None = None
    """The selector that is fine-tuned again; None trains one from nothing."""
    kept_validation: Rows = field(default_factory=dict)
    """The validation rows of labels that the parent has too, as its selector reads them."""
    deleted: Rows = field(default_factory=dict)
    """The validation rows of labels that the parent has and the candidate has not."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the report says of the choice of rows."""

    @property
    def scored_labels(self) -> list[str]:
        """Every label the selector scores, in a stable order."""
        return sorted(self.sets.representation)

    def shown(self, retention: float, seed: int) -> dict[str, list[Row]]:
        """What the language model is trained on: what is fresh, and a share of what is old (paper, section 3.4)."""
        return joined(self.fresh, retain(self.old, retention, seed))


class Inputs(NamedTuple):
    """What the names in a job meant when its first attempt began."""

    parent: Release | None
    adapters: dict[str, str]


def inputs_of(job: Job, body: SelectorBody, context: TrainingContext) -> Inputs:
    """The parent and the adapter of every new label, the same for all attempts; raises `NotFound`, `Invalid`."""
    registry = context.registry

    def meant_now() -> dict[str, Any]:
        adapters = known_adapters(job, body, context) if isinstance(body, SelectorTrain | SelectorAdd) else {}
        return {"parent": body.parent or registry.releases.current_id(job.tenant_id), "adapters": adapters}

    meant = context.checkpoints(job).once("inputs", meant_now)
    parent = registry.releases.get(job.tenant_id, meant["parent"]) if meant["parent"] else None
    return Inputs(parent, meant["adapters"])


def plan_training(job: Job, held: HeldJob, body: SelectorTrain, inputs: Inputs, context: TrainingContext) -> Plan:
    """Plan a selector that is trained from nothing (paper, section 3.3); raises `Invalid` `labels_too_few`."""
    if len(body.datasets) < 2:
        raise Invalid("labels_too_few", "a selector needs two labels, or one label and a background data set")
    split = split_rows(job, body, body.text, context)
    sets = sets_of(job, held, body, split, body.text, context)
    parent = inputs.parent
    selector = parent.selector if parent and parent.base_model == context.base_model else None
    known = set(selector.labels) - {BACKGROUND} if selector else set()
    kept = {label: rows for label, rows in split.validation.items() if label in known}
    return Plan(
        sets,
        fresh=sets.representation,
        old={},
        datasets=body.datasets,
        adapters=inputs.adapters,
        kind=body.selector,
        readout=body.readout,
        text=body.text,
        reject_policy=body.reject_policy,
        parent=parent,
        kept_validation=as_read(kept, selector.text) if selector else {},
        notes=data_notes(job, split, sets, {}, body.text, body.selection, context),
    )
