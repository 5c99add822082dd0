"""The bodies of jobs on several tasks that share an adapter ("Deploying Multi-task Online Server", sections 3 to 5)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.contracts.labels import short_form
from shared.contracts.training_settings import LoraSettings
from shared.contracts.training_tasks import (
    MIN_MORE_ROWS,
    MIN_ROWS,
    DatasetRef,
    FindDataset,
    LabelName,
    TaskTraining,
    Training,
)

Sampler = Literal["instance", "class", "temperature", "capped-temperature", "unimax"]
TaskKind = Literal["classification", "generation"]
InputForm = Literal["single", "pair"]
OutputForm = Literal["binary", "ordinal", "multi-class", "text"]
Resource = Literal["high", "low"]
SplitBy = Literal["none", "input", "output", "both"]
Prefix = Annotated[str, Field(min_length=1, max_length=2000)]
JobId = Annotated[str, Field(max_length=64)]
LOW_BELOW = 5
"""A task whose single-task run overfits in an earlier epoch than this is low-resource (paper, section 4.2)."""
MOST_ROWS = 1_000_000_000
"""Of a cap, of a temperature, and of steps: beyond any use."""
QUALIFIED = 0.99
"""Share of the single-task result from which a task is qualified (paper, section 3.2)."""


class MultitaskSettings(LoraSettings):
    """How to train; the defaults are those of the multi-task paper's table 6."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 3e-5
    epochs: Annotated[int, Field(ge=1, le=100)] = 10
    """Of the stage with all tasks; of a plan's runs, those that their learning rate falls over."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 1
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 8


class TaskOverride(BaseModel):
    """What the caller says of a task in place of what its rows say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TaskKind | None = None
    input: InputForm | None = None
    output: OutputForm | None = None
    group: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Tasks of one group may share an adapter, whatever their forms."""
    resource: Resource | None = None
    """A task with a resource is not trained by the plan."""


class _Multitask(TaskTraining):
    """Fields of the jobs that train on several tasks."""

    settings: MultitaskSettings = MultitaskSettings()
    labels: dict[LabelName, DatasetRef] = Field(max_length=1000)
    """Data set of each label."""

    @field_validator("labels")
    @classmethod
    def _are_several(cls, labels: dict[str, str]) -> dict[str, str]:
        if len(labels) < 2:
            raise ValueError("one task has no other to share an adapter with: name two labels or more")
        return labels

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        found = {label: find(ref, label, MIN_ROWS) for label, ref in self.labels.items()}
        return self.model_copy(update={"labels": found})


class MultitaskPlan(_Multitask):
    """Sort tasks into groups that may share an adapter, and into high- and low-resource (paper, sections 4.1, 4.2)."""

    kind: Literal["multitask.plan"] = "multitask.plan"
    overrides: dict[LabelName, TaskOverride] = Field(default_factory=dict, max_length=1000)
    evaluate_rows: Annotated[int, Field(ge=2, le=10_000)] = 200
    """Rows of each task that its validation loss is taken on, at most."""
    split_by: SplitBy = "none"
    """Besides classification and generation, which never share an adapter: by the form of inputs, outputs, or both."""

    def says_resource(self, label: str) -> bool:
        """Whether the overrides say a label's resource, so that the plan makes no run for it."""
        return label in self.overrides and self.overrides[label].resource is not None

    @model_validator(mode="after")
    def _overrides_are_known(self) -> Self:
        _check_known("overrides", self.overrides, self.labels)
        if self.settings.method == "pissa":
            raise ValueError("a plan reads its runs' checkpoints, which pissa stores apart from the base: take lora")
        if self.settings.epochs < LOW_BELOW - 1:
            raise ValueError(
                f"{self.settings.epochs} epochs cannot show whether a task overfits before epoch {LOW_BELOW}: set "
                f"settings.epochs to {LOW_BELOW - 1} or more"
            )
        return self


class MultitaskTrain(_Multitask):
    """Train one adapter on several tasks, in two stages (paper, section 4.2)."""

    kind: Literal["multitask.train"] = "multitask.train"
    prefixes: dict[LabelName, Prefix] = Field(default_factory=dict, max_length=1000)
    """What stands before each prompt of a label, to tell the tasks apart; by default a line with the label's name."""
    plan: JobId = ""
    """Job of the plan that says which tasks are high-resource."""
    high_resource: Annotated[tuple[LabelName, ...], Field(max_length=1000)] | None = None
    """The high-resource tasks, where no plan says it."""
    two_stages: bool = True
    """Train on the high-resource tasks first, one epoch, each row as often as any other; then on all."""
    sampler: Sampler = "capped-temperature"
    """How often each task is drawn in the stage with all tasks (paper, equations 1 to 4; `unimax`: Chung et al.)."""
    cap: Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": MOST_ROWS})] = 20_000
    """K: rows of a task that count, at most, for `capped-temperature`."""
    tau: Annotated[float, Field(json_schema_extra={"exclusiveMinimum": 0, "maximum": MOST_ROWS})] = 2.0
    """The temperature: 1 draws tasks by their rows; the higher, the more alike."""
    epoch_cap: Annotated[int, Field(ge=1, le=1000)] = 10
    """N: how often `unimax` shows a row at most."""
    max_steps: Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": MOST_ROWS})] = 15_000
    """Most steps of both stages together, whatever the sampler."""
    validation: dict[LabelName, DatasetRef] = Field(default_factory=dict, max_length=1000)
    """Data set to measure a label on; by default a share of its data set."""
    evaluate_rows: Annotated[int, Field(ge=0, le=10_000)] = 40
    """Rows to measure of each label."""

    @field_validator("cap")
    @classmethod
    def _cap_leaves_rows(cls, cap: int) -> int:
        if not 1 <= cap <= MOST_ROWS:
            raise ValueError(f"a cap (K) of {cap} is no number of rows to draw: take 1 or more, such as 20000")
        return cap

    @field_validator("tau")
    @classmethod
    def _tau_is_positive(cls, tau: float) -> float:
        if not 0 < tau <= MOST_ROWS:
            raise ValueError(f"a tau of {tau:g} gives no probabilities: take one above 0, such as 2")
        return tau

    @field_validator("max_steps")
    @classmethod
    def _steps_train(cls, steps: int) -> int:
        if not 1 <= steps <= MOST_ROWS:
            raise ValueError(f"max_steps of {steps} trains nothing that ends: take 1 or more, such as 15000")
        return steps

    @model_validator(mode="after")
    def _knows_its_stages(self) -> Self:
        _check_known("prefixes", self.prefixes, self.labels)
        _check_known("validation", self.validation, self.labels)
        _check_known("high_resource", self.high_resource or (), self.labels)
        if self.plan and self.high_resource is not None:
            raise ValueError("plan and high_resource both say which tasks come first: name one of them")
        if self.two_stages and not self.plan and self.high_resource is None:
            raise ValueError(
                "two stages need the high-resource tasks: name a plan's job in `plan`, the labels in `high_resource`, "
                "or set two_stages to false"
            )
        check_prefixes(self.all_prefixes)
        return self

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        validation = {label: find(ref, label, MIN_MORE_ROWS) for label, ref in self.validation.items()}
        return super().with_datasets(find).model_copy(update={"validation": validation})

    @property
    def all_prefixes(self) -> dict[str, str]:
        """The prefix of each label."""
        return {label: self.prefixes.get(label) or usual_prefix(label) for label in self.labels}


class MultitaskPropose(Training):
    """Measure a shared adapter against each label's own, and make a candidate for those that lose nothing by it."""

    kind: Literal["multitask.propose"] = "multitask.propose"
    adapter: Annotated[str, Field(max_length=100)] = ""
    """The shared adapter, as any of its versions `label@n`."""
    job: JobId = ""
    """The `multitask.train` that made it, in place of `adapter`."""
    validation: dict[LabelName, DatasetRef] = Field(min_length=1, max_length=1000)
    """Rows to measure each label on, which neither adapter was trained on; other labels stay as they are."""
    evaluate_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Rows to measure of each label, at most."""

    @model_validator(mode="after")
    def _names_an_adapter(self) -> Self:
        if bool(self.adapter) == bool(self.job):
            raise ValueError("name the shared adapter: a version in `adapter`, or its training in `job`")
        return self

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with every data set replaced by the result of `find`."""
        found = {label: find(ref, label, MIN_MORE_ROWS) for label, ref in self.validation.items()}
        return self.model_copy(update={"validation": found})


MultitaskBody = MultitaskPlan | MultitaskTrain | MultitaskPropose


def is_qualified(shared: float, single: float) -> bool:
    """Whether a task keeps enough of its single-task result (paper, section 3.2)."""
    return shared >= QUALIFIED * single


def overhead(qualified: Sequence[int]) -> float | None:
    """Return 1 over the qualified tasks, of several models over the most of one (tables 1 and 9); None without any."""
    most = max(qualified, default=0)
    return 1 / most if most else None


def usual_prefix(label: str) -> str:
    """Return the prefix of a label that names none: its rows state the instruction already."""
    return f"Task: {short_form(label)}"


def check_prefixes(prefixes: Mapping[str, str]) -> None:
    """Raise `ValueError` where two labels have one prefix, up to case and white space."""
    seen: dict[str, str] = {}
    for label, prefix in prefixes.items():
        other = seen.setdefault(" ".join(prefix.split()).casefold(), label)
        if other != label:
            raise ValueError(f"{other} and {label} have one prefix, {prefix!r}: give each its own")


def _check_known(field: str, named: Any, labels: Mapping[str, str]) -> None:
    if unknown := sorted(set(named) - set(labels)):
        raise ValueError(f"{field} names labels without a data set: {', '.join(unknown)}; name them in `labels` too")
