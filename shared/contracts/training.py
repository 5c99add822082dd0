"""What a training job may ask for; the API checks it with these models, the trainer reads it with the same ones."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from shared.contracts.labels import BACKGROUND, parse_label
from shared.contracts.manifests import Release, SelectorKind, SelectorText
from shared.contracts.training_settings import LoraSettings, RepresentationSettings
from shared.errors import Conflict, Invalid

LabelName = Annotated[str, Field(max_length=65), AfterValidator(lambda text: str(parse_label(text)))]
DatasetRef = Annotated[str, Field(min_length=1, max_length=64)]
AdapterRef = Annotated[str, Field(min_length=1, max_length=100)]
GroupName = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Readout = Literal["auto", "names", "head"]
MissingAdapters = Literal["refuse", "allow"]
FindDataset = Callable[[str, str], str]
"""What a data set is called, and the label it is for -> what to call it instead."""


class _Training(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: LoraSettings = LoraSettings()


class AdapterTrain(_Training):
    """Train one label's adapter on its own rows alone (paper, section 3.2)."""

    kind: Literal["adapter.train"] = "adapter.train"
    label: LabelName
    dataset: DatasetRef
    validation: DatasetRef | None = None
    """Rows to evaluate on; a share of `dataset` where it is missing."""
    instruction: Annotated[str, Field(max_length=20_000)] = ""
    """Used for requests that bring none; where empty, the commonest of the rows."""
    evaluate_rows: Annotated[int, Field(ge=0, le=10_000)] = 40

    def with_datasets(self, find: FindDataset) -> Self:
        """The same with every data set replaced by what `find` answers."""
        validation = find(self.validation, self.label) if self.validation else None
        return self.model_copy(update={"dataset": find(self.dataset, self.label), "validation": validation})


class ComparisonTrain(_Training):
    """Train one model on all labels at once, which no selector routes to, and measure it (paper, section 4.2)."""

    kind: Literal["comparison.train"] = "comparison.train"
    model: Literal["multi-task-lora", "moe-lora"] = "multi-task-lora"
    """One LoRA whose tasks weigh the same in the loss (MFTCoder), or a mixture of LoRA experts."""
    labels: dict[LabelName, DatasetRef] = Field(min_length=1, max_length=1000)
    """Data set of each label."""
    evaluation: dict[LabelName, DatasetRef] = Field(default_factory=dict, max_length=1000)
    """Rows to measure a label on; a share of its data set where it is missing."""
    evaluate_rows: Annotated[int, Field(ge=0, le=10_000)] = 40
    """Of each label."""
    classification: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Labels whose answers are judged by exact match, though nearly every row has one of its own."""
    experts: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=64)] = (
        2,
        4,
        6,
        8,
    )
    """Of the mixture: how many the modules of each equal part of the layers have, from below (Gao et al. 2024)."""
    experts_used: Annotated[int, Field(ge=1, le=64)] = 2
    """Of the mixture: how many of them each token takes."""

    def with_datasets(self, find: FindDataset) -> Self:
        """The same with every data set replaced by what `find` answers."""

        def found(refs: dict[str, str]) -> dict[str, str]:
            return {label: find(ref, label) for label, ref in refs.items()}

        return self.model_copy(update={"labels": found(self.labels), "evaluation": found(self.evaluation)})

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        unknown = sorted({*self.evaluation, *self.classification} - set(self.labels))
        if unknown:
            raise ValueError(f"evaluation or classification names labels that are not trained: {', '.join(unknown)}")
        if self.model == "moe-lora" and self.settings.method not in ("lora", "rslora"):
            raise ValueError(f"a mixture's experts are lora or rslora, not {self.settings.method}")
        return self


class _SelectorTraining(_Training):
    """What every selector job says: how its candidate is judged, and what happens to it then."""

    min_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.8
    max_loss: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Accuracy that a kept label may lose on validation. One point is the contract; where a label has fewer than 100
    validation rows a single row weighs more than that, and more may be needed."""
    max_false_reject: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Share of validation rows that may be rejected though they belong somewhere."""
    background_reject: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of background rows whose rejection is enough: the line is drawn no higher than that takes, because the
    last ones look like requests that belong somewhere."""
    min_llm_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of validation rows about which a cascade asks the language model at least, 1 for always: validation rows
    that cost nothing to leave to the light selector alone say little of the errors to come."""
    max_llm_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of validation rows about which it may ask: a bound on its cost. Between the two, as few as lose no
    accuracy."""
    promote: bool = False
    """Make the candidate current at once where the gate passes."""
    parent: Annotated[str, Field(max_length=64)] = ""
    """The release to update and to be judged against; the current one where it is empty."""

    @model_validator(mode="after")
    def _shares_are_ordered(self) -> Self:
        if self.min_llm_share > self.max_llm_share:
            raise ValueError("min_llm_share is above max_llm_share: no share of rows is between them")
        return self


class _NewLabels(_SelectorTraining):
    """The labels that a job brings, with their data."""

    labels: dict[LabelName, DatasetRef] = Field(min_length=1, max_length=1000)
    """Data set of each label."""
    background: DatasetRef | None = None
    """Texts that belong to no label, to learn to reject by."""
    adapters: dict[LabelName, AdapterRef] = Field(default_factory=dict, max_length=1000)
    """Adapter of a label as `label@n` or digest; the newest where it is missing."""
    groups: dict[LabelName, GroupName] = Field(default_factory=dict, max_length=1000)
    """Group of a label; its domain where it is missing."""
    missing_adapters: MissingAdapters = "refuse"
    """A label without an adapter ends the job, or, with `allow`, stands in the candidate without one: that can be
    measured and updated, but not promoted."""
    selection: RepresentationSettings = RepresentationSettings()

    @property
    def datasets(self) -> dict[str, str]:
        """Data set of each label, background among them."""
        return {**self.labels, **({BACKGROUND: self.background} if self.background else {})}

    def with_datasets(self, find: FindDataset) -> Self:
        """The same with every data set replaced by what `find` answers."""
        found = {label: find(ref, label) for label, ref in self.datasets.items()}
        return self.model_copy(update={"background": found.pop(BACKGROUND, None), "labels": found})

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        unknown = (set(self.adapters) | set(self.groups)) - set(self.labels)
        if unknown or BACKGROUND in self.labels:
            raise ValueError(f"labels, adapters and groups disagree about: {', '.join(unknown) or BACKGROUND}")
        return self


class SelectorTrain(_NewLabels):
    """Train a selector from nothing (paper, section 3.3)."""

    kind: Literal["selector.train"] = "selector.train"
    selector: SelectorKind = "cascade"
    """A light selector that asks the language model where it is not sure, or one of the two alone. A light one is
    trained in seconds; an update goes on with the kind it finds."""
    readout: Readout = "auto"
    """How the language model answers: by the `names` of the labels, which its prompt lists (the paper's way), or by a
    linear `head` on its last hidden state, with the text alone as its prompt. `auto` takes the head where the prompt
    without its text would fill over half of `max_length`."""
    text: SelectorText = "input"
    reject_policy: Literal["base", "error"] = "base"

    @model_validator(mode="after")
    def _can_be_packed(self) -> Self:
        if self.settings.packing and self.readout == "head" and self.selector != "light":
            raise ValueError("a head reads the end of each sequence: leave out packing, or take readout names")
        return self


class _SelectorUpdate(_SelectorTraining):
    """A second fine-tuning of a release's selector (paper, section 3.4)."""

    retention: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = 0.5
    """Share of the old representation set that the language model is shown again; the light selector always sees all
    of it. `auto` takes the smallest of 0, 0.1, 0.3, 0.5 and 1 at which no kept label loses more than `max_loss`."""


class SelectorAdd(_SelectorUpdate, _NewLabels):
    """Add labels to the current release's selector, keeping a share of its old rows (paper, section 3.4)."""

    kind: Literal["selector.add"] = "selector.add"

    def check_against(self, release: Release) -> None:
        """Raise `Conflict` `label_exists` where the release has such a label already."""
        known = sorted(set(self.labels) & set(release.labels))
        if known:
            raise Conflict("label_exists", f"release {release.id} has {', '.join(known)} already")


class SelectorBalance(_SelectorUpdate):
    """Show the current selector fewer rows of easy labels and more rows of hard ones (paper, section 3.4).

    Hard labels keep all their rows and get `selection.rows_per_label` more; easy ones keep the retained share.
    """

    kind: Literal["selector.balance"] = "selector.balance"
    labels: dict[LabelName, DatasetRef] = Field(default_factory=dict, max_length=1000)
    """Hard labels with the data set of their extra rows."""
    hard: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Hard labels whose extra rows come from the data set that the release names for them. Where neither `labels` nor
    `hard` names one, the labels under `hard_below` are the hard ones."""
    easy: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Where it is empty, the labels that reach `easy_from` and are not hard."""
    hard_below: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Accuracy on the validation rows of the release to update."""
    easy_from: Annotated[float, Field(ge=0, le=1)] = 0.95
    selection: RepresentationSettings = RepresentationSettings()

    @property
    def named_hard(self) -> set[str]:
        """The labels that the job itself calls hard."""
        return {*self.labels, *self.hard}

    def with_datasets(self, find: FindDataset) -> Self:
        """The same with every data set replaced by what `find` answers."""
        return self.model_copy(update={"labels": {label: find(ref, label) for label, ref in self.labels.items()}})

    def check_against(self, release: Release) -> None:
        """Raise `Invalid` `label_unknown` where the release lacks a label that the job names."""
        _check_known(self.named_hard | set(self.easy), release)

    @model_validator(mode="after")
    def _tells_easy_from_hard(self) -> Self:
        both = sorted(self.named_hard & set(self.easy))
        if both:
            raise ValueError(f"easy and hard at once: {', '.join(both)}")
        if self.hard_below > self.easy_from:
            raise ValueError("hard_below is above easy_from: labels between them would be both")
        return self


class SelectorDelete(_SelectorUpdate):
    """Take labels out of the current release and its selector (paper, section 3.4)."""

    kind: Literal["selector.delete"] = "selector.delete"
    labels: Annotated[tuple[LabelName, ...], Field(min_length=1, max_length=1000)]
    deleted_texts: Literal["reject", "forget"] = "reject"
    """`reject`: the rows of deleted labels are background from now on, so that requests like them are learnt to be
    rejected. `forget`: they are gone, and such requests may go to a neighbour."""

    def with_datasets(self, find: FindDataset) -> Self:  # noqa: ARG002
        """The same: a deletion needs no new data."""
        return self

    def check_against(self, release: Release) -> None:
        """Raise `Invalid`: `label_unknown`, or `labels_too_few` where too little would be left to select among."""
        _check_known(set(self.labels), release)
        left = len(set(release.labels) - set(self.labels))
        has_background = self.deleted_texts == "reject" or BACKGROUND in release.representation
        if not left or left + has_background < 2:
            raise Invalid(
                "labels_too_few",
                f"this would leave {left} of {len(release.labels)} labels: a selector needs two, or one and "
                "background; keep some, or train anew",
            )


def _check_known(labels: set[str], release: Release) -> None:
    unknown = sorted(labels - set(release.labels))
    if unknown:
        raise Invalid(
            "label_unknown",
            f"release {release.id} has no label {', '.join(unknown)}; it has {', '.join(sorted(release.labels))}",
        )


SelectorUpdate = SelectorAdd | SelectorBalance | SelectorDelete
SelectorBody = SelectorTrain | SelectorUpdate
TrainingBody = AdapterTrain | ComparisonTrain | SelectorBody
_BODY: TypeAdapter[TrainingBody] = TypeAdapter(Annotated[TrainingBody, Field(discriminator="kind")])


def parse_training(body: dict[str, Any]) -> TrainingBody:
    """Read the body of a training job; raises pydantic's `ValidationError`."""
    return _BODY.validate_python(body)
