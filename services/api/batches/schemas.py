"""Requests and answers about batches, in OpenAI's format."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints

from services.api.batches.lines import Endpoint
from services.api.files.schemas import MAX_EXPIRY_SECONDS, ExpirySeconds
from services.api.jobs.schemas import Metadata
from services.api.openai.schemas import Body
from shared.contracts.batches import Batch, BatchState, LineError

WINDOW_SECONDS = 86_400


class OutputExpiry(Body):
    """How long the files that a batch writes are kept."""

    anchor: Literal["created_at"]
    seconds: ExpirySeconds


class BatchRequest(Body):
    """The body of `POST /v1/batches`."""

    input_file_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
    """By default they are kept for 30 days."""

    @property
    def output_kept_seconds(self) -> int:
        """How long the files that the batch writes are kept."""
        return self.output_expires_after.seconds if self.output_expires_after else MAX_EXPIRY_SECONDS


class Counts(BaseModel):
    """How many requests a batch has, and how many have ended."""

    total: int
    completed: int
    failed: int


class Errors(BaseModel):
    """What is wrong with an input: every line, where the batch is shown by itself; in a list the first hundred."""

    object: Literal["list"] = "list"
    data: list[LineError]


class BatchView(BaseModel):
    """A batch in OpenAI's format; times are seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: Errors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchState
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    usage: Annotated[dict[str, Any], Field(description="Tokens of the answers that are stored, as OpenAI counts them")]
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, batch: Batch, cancelling_at: float, errors: list[LineError] | None = None) -> Self:
        """Return the view of a batch; of one that is to be cancelled and whose worker has not seen it yet, too."""
        state, times = batch.state, dict(batch.times)
        if cancelling_at and state in (BatchState.VALIDATING, BatchState.IN_PROGRESS):
            state, times = BatchState.CANCELLING, {BatchState.CANCELLING: cancelling_at, **times}
        named = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        told = errors or list(batch.errors)
        return cls(
            **batch.model_dump(include={"id", "endpoint", "model", "input_file_id", "output_file_id", "error_file_id"}),
            errors=Errors(data=told) if told else None,
            status=state,
            created_at=int(times["created"]),
            expires_at=int(batch.expires_at),
            **{f"{name}_at": int(times[name]) if name in times else None for name in named},
            request_counts=Counts(total=batch.total, completed=batch.completed, failed=batch.failed),
            usage=_usage(batch),
            metadata=dict(batch.metadata) if batch.metadata is not None else None,
        )


class BatchPage(BaseModel):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchView]
    first_id: str | None
    last_id: str | None
    has_more: bool


def _usage(batch: Batch) -> dict[str, Any]:
    prompt = sum(part.prompt_tokens for part in batch.parts.values())
    completion = sum(part.completion_tokens for part in batch.parts.values())
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
