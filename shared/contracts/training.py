"""The bodies of training jobs; the API checks and the trainer reads them with the same models."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from shared.contracts.compose import AdapterCompose
from shared.contracts.corpus_clean import CorpusClean
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Ambiguous, Release, SelectorKind
from shared.contracts.multitask import MultitaskBody
from shared.contracts.reading import ReadingChoice
from shared.contracts.rebase import Rebase
from shared.contracts.reviews import TrafficReview
from shared.contracts.templates import TemplateName
from shared.contracts.training_settings import RepresentationSettings
from shared.contracts.training_tasks import (
    MIN_MORE_ROWS,
    MIN_ROWS,
    AdapterCheck,
    AdapterRef,
    AdapterTrain,
    ComparisonTrain,
    DatasetRef,
    FindDataset,
    LabelName,
    Training,
)
from shared.errors import Conflict, Invalid

GroupName = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Readout = Literal["auto", "names", "head"]
MissingAdapters = Literal["refuse", "allow"]
Description = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Instruction = Annotated[str, Field(min_length=1, max_length=20_000)]
RATIOS = (0.0, 0.1, 0.3, 0.5, 1.0)
"""The retention ratios that `auto` tries: those of the paper, and 0 and 1."""


class _SelectorTraining(Training):
    """Fields of every selector job: how the gate judges its candidate, and whether to promote it."""

    min_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Accuracy that each new label needs on validation rows; by default the operator's limit, and never under it."""
    max_loss: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Accuracy that a kept label may lose on validation rows; by default the operator's limit, and never above it. A
    label of which one row is more than that may lose one row, as long as all rows of kept labels together lose no
    more."""
    max_false_reject: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Share of validation rows with a label that may be rejected."""
    background_reject: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of background rows that has to be rejected. The threshold is no higher than this requires, because the last
    background rows resemble requests that have a label."""
    min_llm_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Smallest share of validation rows that a cascade sends to the language model; 1 sends all. A light selector
    without errors on validation rows may still make errors on later requests."""
    max_llm_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Largest share of validation rows that a cascade sends to the language model; it bounds the cost. Between the two
    shares, the cascade sends as few rows as it can without losing accuracy."""
    promote: bool = False
    """Promote the candidate at once if it passes the gate; the key needs the scope `promote`."""
    parent: Annotated[str, Field(max_length=64)] = ""
    """The release to update and to compare with; where it is empty, the current release."""

    @property
    def dropped(self) -> Collection[str]:
        """The labels of the parent that the job takes out by name; any other label that goes is a loss."""
        return ()

    @model_validator(mode="after")
    def _shares_are_ordered(self) -> Self:
        if self.min_llm_share > self.max_llm_share:
            raise ValueError("min_llm_share is above max_llm_share: no share of rows is between them")
        return self


class _NewLabels(_SelectorTraining):
    """The new labels of a job, with their data."""

    selector: SelectorKind | Literal["auto", "keep"]
    labels: dict[LabelName, DatasetRef | None] = Field(min_length=1, max_length=1000)
    """Data set of each label; null for a label that has a description alone, which only prototypes can take."""
    descriptions: dict[LabelName, Description] = Field(default_factory=dict, max_length=1000)
    """What a label's requests ask for, in the language of such requests; one of the texts that the selector learns."""
    background: DatasetRef | None = None
    """Data set of texts without a label, on which the selector learns to reject."""
    adapters: dict[LabelName, AdapterRef] = Field(default_factory=dict, max_length=1000)
    """Adapter of a label as `label@n` or digest; by default the newest."""
    groups: dict[LabelName, GroupName] = Field(default_factory=dict, max_length=1000)
    """Group of a label; by default its domain."""
    templates: dict[LabelName, TemplateName] = Field(default_factory=dict, max_length=1000)
    """Prompt template of a label in the release; by default its adapter's, or the one that an edit has set."""
    instructions: dict[LabelName, Instruction] = Field(default_factory=dict, max_length=1000)
    """What a request of a label without an instruction is answered by; by default as for `templates`."""
    missing_adapters: MissingAdapters = "refuse"
    """With `refuse`, a label without an adapter ends the job. With `allow`, the candidate keeps the label without an
    adapter: it can be measured and updated, but not promoted."""
    selection: RepresentationSettings = RepresentationSettings()

    @property
    def datasets(self) -> dict[str, str]:
        """Data set of each label that has one, including background."""
        refs = {**self.labels, BACKGROUND: self.background}
        return {label: ref for label, ref in refs.items() if ref}

    @property
    def may_take_prototypes(self) -> bool:
        """Whether the selector may consist of prototypes, which need no rows; of `keep` the release decides."""
        return self.selector in ("prototypes", "auto", "keep")

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        fewest = 1 if self.may_take_prototypes else MIN_ROWS
        found = {label: find(ref, label, fewest) for label, ref in self.datasets.items()}
        background = found.pop(BACKGROUND, None)
        return self.model_copy(update={"background": background, "labels": {**self.labels, **found}})

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        named = {*self.adapters, *self.groups, *self.descriptions, *self.templates, *self.instructions}
        if unknown := sorted(named - set(self.labels)):
            raise ValueError(f"adapters, groups, descriptions or more name other labels: {', '.join(unknown)}")
        bare = sorted(label for label, ref in self.labels.items() if ref is None)
        mute = [label for label in bare if label not in self.descriptions]
        if mute:
            raise ValueError(f"a label without a data set needs a description: {', '.join(mute)}")
        if bare and not self.may_take_prototypes:
            raise ValueError(f"only prototypes can take a label without a data set: {', '.join(bare)}")
        return self


class SelectorTrain(_NewLabels, ReadingChoice):
    """Train a selector from scratch (paper, section 3.3)."""

    kind: Literal["selector.train"] = "selector.train"
    selector: SelectorKind | Literal["auto"] = "auto"
    """A `cascade` scores with the light selector first and with the language model where its probability is low; `llm`
    and `light` have only one of the two. A light selector trains in seconds, `prototypes` need no training and any
    number of rows. `auto` takes prototypes where labels have too few rows for the others, or where they are better than
    the light selector on few; else that, and makes a cascade of it where neither is enough and the language model's
    estimate is within the operator's limit, or confirmed."""
    readout: Readout = "auto"
    """How the language model scores labels: `names` scores the names of the labels, which its prompt lists (as in the
    paper); `head` is a linear head on the last hidden state, and its prompt is only the text. `auto` chooses the head
    where the prompt without its text would fill over half of `max_length`."""
    reject_policy: Literal["base", "error"] = "base"
    ambiguous: Ambiguous | None = None
    """What a text between two labels gets: the base model's answer, a rejection, or one that names both as `choices`.
    By default the best label, as any other text. It lies between two labels where these have half of the probability
    together, and the second at least half of the first one's."""
    drop: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Labels of the parent that may go. The gate counts every other label of the parent that the job does not train as
    a loss."""
    rebase: Annotated[Rebase | None, Field(exclude_if=lambda rebase: rebase is None)] = None
    """Where the job moves its parent to another base model: which jobs train its adapters there."""

    @property
    def dropped(self) -> Collection[str]:
        """The labels of the parent that the job takes out by name."""
        return self.drop

    @model_validator(mode="after")
    def _says_what_it_moves(self) -> Self:
        if self.rebase and not (self.parent and self.base_model):
            raise ValueError("a rebase needs the release that it moves, `parent`, and the `base_model` to move it to")
        return self

    @model_validator(mode="after")
    def _can_be_packed(self) -> Self:
        if self.settings.packing and self.readout == "head" and self.selector not in ("light", "prototypes"):
            raise ValueError("a head reads the end of each sequence: leave out packing, or take readout names")
        return self


class _SelectorUpdate(_SelectorTraining):
    """A second fine-tuning of a release's selector (paper, section 3.4)."""

    retention: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = 0.5
    """The retention ratio: share of the old representation set on which the language model trains again; the light
    selector always trains on all of it. `auto` chooses the smallest of 0, 0.1, 0.3, 0.5 and 1 at which no kept label
    loses more than `max_loss`."""
    selector: Literal["keep", "light", "prototypes", "auto"] = "keep"
    """By default the release's kind, except that prototypes become what `auto` chooses for the rows that there are now;
    `light` and `prototypes` drop a language model."""

    def trained_like(self, release: Release) -> Self:
        """Return a copy with the settings of the release's language model, where the job names none."""
        if "settings" in self.model_fields_set or not (before := release.trained_as):
            return self
        return self.model_copy(update={"settings": before.settings})


class SelectorAdd(_SelectorUpdate, _NewLabels):
    """Add labels to a release's selector and retrain it on a share of its old rows (paper, section 3.4)."""

    kind: Literal["selector.add"] = "selector.add"

    def check_against(self, release: Release) -> None:
        """Raise `Conflict` `label_exists` where the release has one of the labels already."""
        known = sorted(set(self.labels) & release.selected_labels)
        if known:
            raise Conflict("label_exists", f"release {release.id} has {', '.join(known)} already")


class SelectorBalance(_SelectorUpdate):
    """Retrain a release's selector on fewer rows of easy labels and more rows of hard ones (paper, section 3.4).

    Hard labels keep all their rows and get `selection.rows_per_label` more; easy labels keep the retained share.
    """

    kind: Literal["selector.balance"] = "selector.balance"
    labels: dict[LabelName, DatasetRef] = Field(default_factory=dict, max_length=1000)
    """Hard labels, with the data set of their additional rows."""
    hard: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Hard labels whose additional rows come from the release's data set for them. Where both `labels` and `hard` are
    empty, the labels with an accuracy under `hard_below` are hard."""
    easy: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Easy labels; where it is empty, the labels whose accuracy reaches `easy_from` and that are not hard."""
    hard_below: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Accuracy on the validation rows of the release to update."""
    easy_from: Annotated[float, Field(ge=0, le=1)] = 0.95
    selection: RepresentationSettings = RepresentationSettings()

    @property
    def named_hard(self) -> set[str]:
        """The labels that the job names as hard."""
        return {*self.labels, *self.hard}

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        labels = {label: find(ref, label, MIN_MORE_ROWS) for label, ref in self.labels.items()}
        return self.model_copy(update={"labels": labels})

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
    """Remove labels from a release and its selector (paper, section 3.4)."""

    kind: Literal["selector.delete"] = "selector.delete"
    labels: Annotated[tuple[LabelName, ...], Field(min_length=1, max_length=1000)]
    deleted_texts: Literal["reject", "forget"] = "reject"
    """With `reject`, the rows of deleted labels become background, so that the selector learns to reject similar
    requests. With `forget`, the rows are removed, and similar requests may be routed to another label."""

    @property
    def dropped(self) -> Collection[str]:
        """The labels of the parent that the job takes out by name."""
        return self.labels

    def with_datasets(self, find: FindDataset) -> Self:  # noqa: ARG002
        """Return the same body: a deletion needs no new data."""
        return self

    def check_against(self, release: Release) -> None:
        """Raise `Invalid` `label_unknown`, or `labels_too_few` where too few labels would remain."""
        _check_known(set(self.labels), release)
        left = len(release.selected_labels - set(self.labels))
        has_background = self.deleted_texts == "reject" or BACKGROUND in release.representation
        if not left or left + has_background < 2:
            raise Invalid(
                "labels_too_few",
                f"this would leave {left} of {len(release.selected_labels)} labels: a selector needs two, or one and "
                "background; keep some, or train anew",
            )


def _check_known(labels: set[str], release: Release) -> None:
    unknown = sorted(labels - release.selected_labels)
    if unknown:
        raise Invalid(
            "label_unknown",
            f"the selector of release {release.id} has no label {', '.join(unknown)}; "
            f"it has {', '.join(sorted(release.selected_labels))}",
        )


SelectorUpdate = SelectorAdd | SelectorBalance | SelectorDelete
SelectorBody = SelectorTrain | SelectorUpdate
TaskBody = AdapterTrain | AdapterCheck | AdapterCompose | ComparisonTrain | MultitaskBody
TrainingBody = TaskBody | TrafficReview | CorpusClean | SelectorBody
_BODY: TypeAdapter[TrainingBody] = TypeAdapter(Annotated[TrainingBody, Field(discriminator="kind")])


def parse_training(body: dict[str, Any]) -> TrainingBody:
    """Read the body of a training job; raises pydantic's `ValidationError`."""
    return _BODY.validate_python(body)
