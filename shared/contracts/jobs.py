"""Jobs and the transitions they may make; pure, and the one truth the ledger's script is built from."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from enum import StrEnum
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_NEW_TOKENS = 64
"""How long an answer may get where its job does not say."""


class JobKind(StrEnum):
    """What a job asks for."""

    GENERATE = "generate"
    SELECT = "select"
    TRAIN = "train"


class JobState(StrEnum):
    """Where a job stands; `JobState.is_final` says whether it can still move."""

    QUEUED = "queued"
    SELECTING = "selecting"
    ROUTED = "routed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """Whether no transition leaves this state."""
        return not TRANSITIONS[self]


class Stage(StrEnum):
    """What is done with a job now, and by which service; a job says it from its creation to its end."""

    SELECT = "select"
    GENERATE = "generate"
    TRAIN = "train"

    @property
    def waiting_state(self) -> JobState:
        """The state in which a job waits for this stage."""
        return JobState.ROUTED if self is Stage.GENERATE else JobState.QUEUED

    @property
    def running_state(self) -> JobState:
        """The state in which an attempt works on this stage."""
        return JobState.SELECTING if self is Stage.SELECT else JobState.RUNNING


_S = JobState
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        # queued -> running: training has no selecting stage; a lost or returned attempt goes back where it waited.
        _S.QUEUED: frozenset({_S.SELECTING, _S.RUNNING, _S.CANCELLED, _S.FAILED}),
        _S.SELECTING: frozenset({_S.ROUTED, _S.SUCCEEDED, _S.REJECTED, _S.FAILED, _S.CANCELLED, _S.QUEUED}),
        _S.ROUTED: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
        _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.ROUTED, _S.QUEUED}),
        _S.SUCCEEDED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CANCELLED: frozenset(),
        _S.REJECTED: frozenset(),
    }
)


def new_job_id(tenant_id: str, idempotency_key: str | None = None) -> str:
    """A fresh random id, or the one id that this tenant's idempotency key always names."""
    if idempotency_key is None:
        return f"job_{secrets.token_hex(12)}"
    return f"job_{hashlib.sha256(f'{tenant_id}/{idempotency_key}'.encode()).hexdigest()[:24]}"


class NewJob(BaseModel):
    """A job as the API hands it to the ledger."""

    model_config = ConfigDict(frozen=True)

    id: str
    tenant_id: str
    kind: JobKind
    stage: Stage
    queue: str
    body: dict[str, Any]
    request: dict[str, Any] | None = Field(default=None, exclude=True)
    """The body as the caller wrote it, where `body` has names replaced by what they meant."""
    release: str = ""
    """Id of the release the job runs under; the ledger refuses it when the pointer has moved meanwhile."""
    label: str = ""
    deadline_seconds: float = 0
    """0 means no deadline."""
    after: tuple[str, ...] = ()
    """Ids of training jobs that must succeed first."""
    trace: dict[str, str] = Field(default_factory=dict, exclude=True)
    """The trace context that the job goes on in (see `shared.observability.tracing`); empty where nothing is traced."""

    @property
    def state(self) -> JobState:
        """The state in which the job is created."""
        return self.stage.waiting_state

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what was asked, to tell a repeated request from another one under the same key."""
        request = json.dumps([self.kind, self.request or self.body, self.after], sort_keys=True)
        return hashlib.sha256(request.encode()).hexdigest()


class Job(BaseModel):
    """A job as the ledger holds it; times are milliseconds of the ledger's own clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant_id: str
    kind: JobKind
    state: JobState
    stage: Stage
    queue: str
    body: dict[str, Any]
    attempt: int = 0
    first_attempt: int = 1
    """The first one of this stage."""
    lost_leases: int = 0
    release: str = ""
    label: str = ""
    trace: dict[str, str] = {}
    deadline_ms: float = 0
    cancel_requested: bool = False
    owner: str = ""
    selection: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    feedback: dict[str, Any] | None = None
    timestamps: dict[str, float]
    """When each state was last entered: `{"queued": 1.0, "selecting": 2.5, ...}`."""
    has_consumer: bool = True
    """Whether a live worker serves the queue the job waits in."""

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> "Job":
        """Read the ledger's hash, whose values are all text."""
        plain: dict[str, Any] = dict(fields)
        for name in ("body", "selection", "progress", "result", "error", "feedback", "trace"):
            if name in plain:
                plain[name] = json.loads(plain[name])
        plain["timestamps"] = {k[3:]: float(v) for k, v in fields.items() if k.startswith("at_")}
        return cls.model_validate(plain)

    @property
    def waited_ms(self) -> float:
        """Milliseconds that a job which an attempt has acquired waited for it, by the ledger's clock."""
        return self.timestamps[self.state] - self.waiting_since_ms

    @property
    def waiting_since_ms(self) -> float:
        """When the job began to wait for its stage, by the ledger's clock."""
        return self.timestamps[self.stage.waiting_state]

    def stage_ms(self) -> dict[str, float]:
        """Milliseconds spent in each stage so far, by the ledger's clock."""
        at = self.timestamps
        end = next((at[s] for s in JobState if s.is_final and s in at), None)
        # By time: a job that was given back has entered `routed` after `running`.
        marks = sorted(((s, at[s]) for s in ("queued", "selecting", "routed", "running") if s in at), key=itemgetter(1))
        ends = [t for _, t in marks[1:]] + [end]
        return {name: round(until - since, 3) for (name, since), until in zip(marks, ends, strict=True) if until}
