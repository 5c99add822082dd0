"""The bodies of trainings on tasks: a label's adapter, and models of all labels to compare routing with."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.contracts.fine_tuning import FineTuning
from shared.contracts.labels import LabelText, check_adapter_label
from shared.contracts.templates import TemplateName
from shared.contracts.training_settings import LoraSettings

LabelName = Annotated[str, Field(max_length=65), AfterValidator(check_adapter_label)]
AdapterRef = Annotated[LabelText, Field(min_length=1, max_length=100)]
"""`label@n`, a label (its newest version) or a digest."""
DatasetRef = Annotated[str, Field(min_length=1, max_length=64)]
FindDataset = Callable[[str, str, int], str]
"""Takes a data set's name, a label, and the fewest rows for it; returns the data set's id."""
Constrain = Literal["none", "auto", "answers"]
FindCorpus = Callable[[str], str]
"""Takes a corpus' name; returns the corpus' id."""
MIN_ROWS, MIN_MORE_ROWS = 4, 2
"""Rows that a label is trained and validated on; rows that are only measured on, or that join those of a release."""
REPEATED_FIELDS = frozenset({"settings", "validation", "evaluate_rows", "long_answers", "constrain"})
"""Of an adapter's training, what its manifest keeps beside data set, label and instruction, to train it again."""
VALIDATION_SHARE = 0.2
"""Of an adapter's rows, where the job names no other rows to measure on."""


class Training(BaseModel):
    """Fields of every training job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: LoraSettings = LoraSettings()
    base_model: Annotated[str, Field(max_length=64, exclude_if=lambda pin: not pin)] = ""
    """Pin of the base model to train on; where it is empty, that of the trainer which takes the job."""
    confirm_cost: bool = False
    """Train also where the estimate is above the operator's limit, `SIGNALBOX_CONFIRM_TRAINING_SECONDS`."""

    def with_corpora(self, find: FindCorpus) -> Self:  # noqa: ARG002
        """Return a copy with every corpus replaced by the result of `find`; most trainings name none."""
        return self


class TaskTraining(Training):
    """Fields of trainings on rows with answers."""

    long_answers: Literal["refuse", "cut", "leave_out"] = "refuse"
    """What becomes of a row whose answer does not fit into `max_length` beside its prompt: it ends the job; the answer
    loses its end; or the row is left out. What was cut or left out is counted in a warning."""


class AdapterTrain(TaskTraining):
    """Train one label's adapter only on its own rows (paper, section 3.2)."""

    kind: Literal["adapter.train"] = "adapter.train"
    label: LabelName
    dataset: DatasetRef
    validation: DatasetRef | None = None
    """Data set to evaluate on; by default a share of `dataset`."""
    instruction: Annotated[str, Field(max_length=20_000)] = ""
    """Used for requests without an instruction; where it is empty, the most common instruction of the rows."""
    evaluate_rows: Annotated[int, Field(ge=0, le=10_000)] = 40
    fine_tuning: FineTuning | None = None
    """The request in OpenAI's format that the job was made of; it also gets a file of its steps' losses."""
    on: Annotated[AdapterRef | None, Field(exclude_if=lambda ref: ref is None)] = None
    """The adapter that it is trained over, such as a domain's: that stays as it is, both are active, and what is
    published is their exact sum. Not with the method `dora`, whose magnitudes have no sum."""
    constrain: Constrain = "none"
    """Whether the adapter's answers are bound to those of its training rows, for requests that say nothing of a
    constraint: `answers` binds them, to 200 different ones at most; `auto` does where each stands in five rows or more
    on average."""

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        validation = find(self.validation, self.label, MIN_MORE_ROWS) if self.validation else None
        return self.model_copy(update={"dataset": find(self.dataset, self.label, MIN_ROWS), "validation": validation})

    @model_validator(mode="after")
    def _can_be_composed(self) -> Self:
        if self.on and self.settings.method == "dora":
            raise ValueError("dora's magnitudes have no sum with the adapter in `on`: train with lora, rslora or pissa")
        return self


class AdapterCheck(Training):
    """Find out which template an adapter was trained with: score examples of right answers under each."""

    kind: Literal["adapter.check"] = "adapter.check"
    adapter: AdapterRef
    dataset: DatasetRef
    """The examples: rows with the outputs that are right; ten are enough."""
    rows: Annotated[int, Field(ge=1, le=200)] = 20
    """Most rows to score."""
    templates: Annotated[tuple[TemplateName, ...], Field(max_length=64)] = ()
    """The templates to compare; by default all that fit the base model."""
    set_template: bool = True
    """Whether a clear winner becomes the template of the label's next version, with the same weights."""

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with the data set replaced by the result of `find`."""
        return self.model_copy(update={"dataset": find(self.dataset, self.adapter.partition("@")[0], 1)})


class ComparisonTrain(TaskTraining):
    """Train and measure one model on all labels, for comparison; no selector routes to it (paper, section 4.2)."""

    kind: Literal["comparison.train"] = "comparison.train"
    model: Literal["multi-task-lora", "moe-lora"] = "multi-task-lora"
    """One LoRA whose tasks weigh the same in the loss (MFTCoder), or a mixture of LoRA experts."""
    labels: dict[LabelName, DatasetRef] = Field(min_length=1, max_length=1000)
    """Data set of each label."""
    evaluation: dict[LabelName, DatasetRef] = Field(default_factory=dict, max_length=1000)
    """Data set to measure a label on; by default a share of its data set."""
    evaluate_rows: Annotated[int, Field(ge=0, le=10_000)] = 40
    """Rows to measure of each label."""
    classification: Annotated[tuple[LabelName, ...], Field(max_length=1000)] = ()
    """Labels whose answers are judged by exact match, although nearly every row has a different answer."""
    experts: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=64)] = (
        2,
        4,
        6,
        8,
    )
    """For the mixture: experts per module, for equal groups of layers from the lowest up (Gao et al. 2024)."""
    experts_used: Annotated[int, Field(ge=1, le=64)] = 2
    """For the mixture: number of experts that each token uses."""

    @property
    def has_experts(self) -> bool:
        """Whether the model is a mixture of LoRA experts."""
        return self.model == "moe-lora"

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        labels = {label: find(ref, label, MIN_ROWS) for label, ref in self.labels.items()}
        evaluation = {label: find(ref, label, MIN_MORE_ROWS) for label, ref in self.evaluation.items()}
        return self.model_copy(update={"labels": labels, "evaluation": evaluation})

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        unknown = sorted({*self.evaluation, *self.classification} - set(self.labels))
        if unknown:
            raise ValueError(f"evaluation or classification names labels that are not trained: {', '.join(unknown)}")
        if self.has_experts and self.settings.method not in ("lora", "rslora"):
            raise ValueError(f"a mixture's experts are lora or rslora, not {self.settings.method}")
        return self
