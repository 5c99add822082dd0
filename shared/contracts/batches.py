"""Batches: many requests in one file, answered in a file; what the ledger keeps of one, and its states."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

MAX_LINES = 50_000
PART_LINES = 250
"""Lines whose answers are stored together: what is done anew, at most, where a part was not settled."""
SHOWN_ERRORS = 100
"""Errors that the record itself holds; where there are more, an object holds them all."""


class BatchState(StrEnum):
    """The states of a batch, which are OpenAI's."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the batch has ended."""
        return self in (_S.FAILED, _S.COMPLETED, _S.EXPIRED, _S.CANCELLED)


_S = BatchState


class LineError(BaseModel):
    """What is wrong with a line of the input file, or with the file (then `line` is null)."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Part(NamedTuple):
    """What is known of a part whose answers are stored."""

    fence: int
    """The lease under which they were stored; it belongs to the object's name."""
    completed: int
    failed: int
    output_bytes: int
    """The object begins with the answers, so many bytes; errors follow."""
    prompt_tokens: int
    completion_tokens: int


class Batch(BaseModel):
    """The record of one batch, written by whoever holds its lease; times are seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant_id: str
    key: str
    """Id of the API key that created it."""
    key_line: str
    """The line of that key; its keys own the batch and its jobs."""
    endpoint: str
    input_file_id: str
    sha256: str
    """Digest of the input, which has a copy of its own."""
    metadata: Mapping[str, str] | None = None
    output_kept_seconds: int
    """How long the files that it writes are kept; 0 means until they are deleted."""
    state: BatchState = BatchState.VALIDATING
    times: Mapping[str, float]
    """When each state was entered, and `created`."""
    expires_at: float
    total: int = 0
    """Requests of the input, once it is found right."""
    parts: Mapping[int, Part] = {}
    """The parts whose answers are stored, by number."""
    completed: int = 0
    """Lines that have an answer so far, also of parts that are not stored yet."""
    failed: int = 0
    stopped_by: Literal["", "cancelled", "expired"] = ""
    """Why lines may be without an answer at its end."""
    model: str | None = None
    """The model that all lines name; null where they name several."""
    errors: tuple[LineError, ...] = ()
    error_count: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None

    def entered(self, state: BatchState, at: float, **changes: object) -> Self:
        """Return the record in another state."""
        return self.model_copy(update={"state": state, "times": {**self.times, state: at}, **changes})

    @property
    def part_count(self) -> int:
        """How many parts the input has."""
        return -(-self.total // PART_LINES)

    @property
    def unsettled(self) -> Iterator[int]:
        """The numbers of the parts whose answers are not stored yet."""
        return (number for number in range(self.part_count) if number not in self.parts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what was asked for; it tells a repeated request from another one under the same key."""
        asked = [self.endpoint, self.input_file_id, dict(self.metadata or {}), self.output_kept_seconds]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def new_batch_id(tenant_id: str, idempotency_key: str | None, line: str) -> str:
    """Return a new random id, or the one that follows from this idempotency key of a tenant or a `line` of keys."""
    if idempotency_key is None:
        return f"batch_{secrets.token_hex(12)}"
    named = json.dumps(["batch", tenant_id, line, idempotency_key])
    return f"batch_{hashlib.sha256(named.encode()).hexdigest()[:24]}"


def job_id_of(batch_id: str, line: int) -> str:
    """Return the id of the job that answers a line: made twice, it is one."""
    return f"job_{hashlib.sha256(f'{batch_id}/{line}'.encode()).hexdigest()[:24]}"


def folder_of(tenant_id: str, batch_id: str = "") -> str:
    """Return the prefix of all objects that belong to a batch, or to any batch of a tenant."""
    return f"tenants/{tenant_id}/batches/" + (f"{batch_id}/" if batch_id else "")
