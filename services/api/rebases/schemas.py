"""Requests about rebases, and how their plans and states are shown."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.api.jobs.schemas import Request
from shared.contracts.jobs import JobState
from shared.contracts.templates import TemplateName
from shared.contracts.training_tasks import DatasetRef, LabelName

Missing = Literal["refuse", "leave_out", "keep"]
Fate = Literal["train", "stay", "keep", "leave_out", "refuse"]
"""`train`: its adapter is trained anew; `stay`: it is on the new base model already; `keep`: it keeps adapter and base
model; `leave_out`: the candidate lacks it; `refuse`: the rebase does not begin."""


class RebaseRequest(Request):
    """The base model that a release is moved to, and what becomes of labels that cannot be trained on it."""

    base_model: Annotated[str, Field(min_length=1, max_length=512)]
    """Pin of the new base model, or the name or folder that its trainer was started with."""
    release: Annotated[str, Field(max_length=64)] = ""
    """The release to move; by default the current one."""
    missing: Missing = "refuse"
    """What becomes of a label that cannot be trained, or whose training fails: `refuse` begins no rebase where one
    cannot be trained, and leaves out one that fails; `leave_out`; `keep` its adapter, on workers of its base model."""
    datasets: dict[LabelName, DatasetRef] = Field(default_factory=dict, max_length=1000)
    """Data sets of labels, in place of those that their adapters were trained on."""
    templates: dict[LabelName, TemplateName] = Field(default_factory=dict, max_length=1000)
    """Prompt templates of labels, in place of those that their adapters were trained with."""
    template: TemplateName | Literal[""] = ""
    """In place of every template that does not fit the new base model."""
    confirm_cost: bool = False
    """Train also what is above the operator's limit of time."""
    dry_run: bool = False
    """Answer the plan, and begin nothing."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class LabelPlan(_View):
    """What a rebase would do with one label."""

    label: str
    fate: Fate
    problem: str
    """Why it cannot be trained, and what to do; empty where it can."""
    adapter: str
    """Its adapter now, as `label@n`."""
    dataset: str
    """Id of the data set that trains it; empty where none is known."""
    rows: int
    template: str
    settings_from: Literal["adapter", "job", "config", ""]
    """Where its training's settings are known from: kept with the adapter, or in its job; else rank, alpha and layers
    from its config, and the rest as usual."""
    seconds: float | None
    """That its training takes; null where no speed is known."""
    memory_bytes: int | None
    needs_confirmation: bool


class RebasePlan(_View):
    """What a rebase would do."""

    release: str
    from_base: str
    base_model: str
    """Pin of the new base model."""
    base_name: str
    labels: list[LabelPlan]
    selector: str
    """Kind of the selector, which is trained anew."""
    selector_rows: dict[str, Literal["data set", "release"]]
    """By label, where the selector's rows come from: its data set, or where that is gone what the release keeps."""
    seconds: float | None
    """Of all trainings together, on one trainer; null where no speed is known."""
    memory_bytes: int | None
    """Of the largest training."""
    problems: list[str]
    """Why the rebase cannot begin like this, and what to do."""
    warnings: list[str]


class Scores(_View):
    """What one adapter and one selector reached on validation rows."""

    adapter: str
    exact_match: float | None
    base_exact_match: float | None
    """Of the base model without the adapter."""
    rows: int
    routed: float | None
    """Share of the label's validation rows that the selector names rightly."""


class LabelState(_View):
    """One label of a rebase: its training, and old against new."""

    label: str
    job: str
    state: JobState | Literal["kept", "forgotten"]
    """`forgotten`: the job has ended without an adapter, and the ledger keeps it no longer."""
    fate: Literal["moved", "kept", "left_out", "open"]
    error: str
    old: Scores
    new: Scores | None


class RebaseView(_View):
    """A rebase: the training of a candidate's selector, and those of its adapters."""

    id: str
    """Also the id of the selector's training."""
    release: str
    base_model: str
    state: Literal["training", "selecting", "succeeded", "failed", "cancelled"]
    why: str
    labels: list[LabelState]
    candidate: str
    """The release that it made; empty until then."""
    passed: bool | None
    """Whether the candidate passes the gate."""
    created_at: float


class RebaseSummary(_View):
    """A rebase in a list."""

    id: str
    state: JobState
    labels: list[str]
    created_at: float
