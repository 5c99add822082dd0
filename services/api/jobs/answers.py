"""Jobs as the API answers with them: whole, and in lists, which leave out what may be large."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.generation import GenerationResult, SelectionResult
from shared.contracts.jobs import JobKind, JobState


class Trains(BaseModel):
    """The kind of a training job, and the labels that it is about."""

    kind: str
    labels: list[str]


class JobSummary(BaseModel):
    """A job in a list; times are in milliseconds: since 1970, or the duration of a stage."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, use_attribute_docstrings=True)

    id: str
    kind: JobKind
    state: JobState
    waiting_for_group: bool
    """Whether the job waits and no live worker serves its queue."""
    queue: str
    label: str | None
    release: str | None
    key: str | None
    """Id of the API key that submitted the job; null in jobs from before it was noted."""
    attempt: int
    """Counts over the job's life, and fences its writes."""
    tries: Annotated[int, Field(alias="try")]
    """Counts the attempts at the present stage, from 1."""
    cancel_requested: bool
    created_at: str
    timestamps: dict[str, float]
    stage_ms: dict[str, float]
    trains: Trains | None
    """What a training job is about; null in other jobs, and in those from before it was noted."""
    selection: SelectionResult | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None


class ListedJob(JobSummary):
    """A job in a list, with what `include` names."""

    request: dict[str, Any] | None = None
    """The request as the caller wrote it."""
    metadata: dict[str, str] | None = None
    """Belongs to `request`."""
    # left_to_right keeps the plain object of a training job: only typed values reach the other types.
    result: Annotated[dict[str, Any] | GenerationResult | SelectionResult | None, Field(union_mode="left_to_right")] = (
        None
    )
    """The result of a training, generation or selection job."""
    feedback: dict[str, Any] | None = None


class JobView(JobSummary):
    """A job as its owner sees it, whole."""

    request: dict[str, Any]
    """The request as the caller wrote it."""
    metadata: dict[str, str]
    # left_to_right keeps the plain object of a training job: only typed values reach the other types.
    result: Annotated[dict[str, Any] | GenerationResult | SelectionResult | None, Field(union_mode="left_to_right")]
    """The result of a training, generation or selection job."""
    feedback: dict[str, Any] | None


class JobPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the next page, null at the end."""

    items: list[ListedJob]
    next: str | None
