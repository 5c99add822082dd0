"""Jobs and their legal transitions; the ledger's script is built from this table."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.labels import LabelText
from shared.contracts.packing import unpack
from shared.contracts.rollouts import Trial

DEFAULT_NEW_TOKENS = 64
"""Default for the most tokens of an answer."""
MAX_BEFORE = 500
"""Most jobs that may have to end before a new one: those of its `after`, of theirs, and so on."""
MAX_DEPENDENTS = 1000
"""Most jobs that may name the same one in `after` before it ends."""
Priority = Literal["interactive", "batch"]
_JOB_BYTES = 5_000
"""What a job without any text takes in the ledger: its fields, its events' stream, its places in the indexes."""
_TOKEN_BYTES, _LOGPROB_BYTES, _TOP_BYTES = 64, 160, 160
"""What a token of an answer takes there, in an event of its own and in the result, its log-probability, and that of an
alternative."""
CONVERSATION_ID = "conversation_id"
"""The name in a request's metadata under which callers say which conversation it belongs to."""
_EXPLAINED_BYTES = 40_000
"""What an explanation takes there besides the prompt's texts: probabilities, rows, the template and its instruction."""
_TRAINING_BYTES = 1 << 18
"""What a training takes there: progress of a thousand steps."""


class JobKind(StrEnum):
    """The kinds of jobs."""

    GENERATE = "generate"
    SELECT = "select"
    TRAIN = "train"


class JobState(StrEnum):
    """The states of a job; `JobState.is_final` tells whether the job can still change."""

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
    """The processing stage of a job, which determines its service; every job has one from creation to end."""

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
        # queued -> running: training has no selecting stage. A lost or returned attempt sends the job back to wait.
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


def new_job_id(tenant_id: str, idempotency_key: str | None = None, line: str = "") -> str:
    """Return a new random id, or the one that follows from this idempotency key of the tenant or a `line` of keys."""
    if idempotency_key is None:
        return f"job_{secrets.token_hex(12)}"
    if line:
        idempotency_key = json.dumps([line, idempotency_key])
    return f"job_{hashlib.sha256(f'{tenant_id}/{idempotency_key}'.encode()).hexdigest()[:24]}"


def conversation_hash(name: str, line: str) -> str:
    """Return what the ledger keeps of a conversation's name, apart from those of other lines of keys."""
    return hashlib.sha256(json.dumps([line, name]).encode()).hexdigest()[:32]


def _conversation(body: Mapping[str, Any], line: str) -> str:
    named = (body.get("metadata") or {}).get(CONVERSATION_ID)
    return conversation_hash(named, line) if named else ""


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
    """The request as the caller wrote it, where `body` has ids in place of the caller's names."""
    release: str = ""
    """Id of the release the job runs under; the ledger refuses the job if another release is current."""
    current_release: str = Field(default="", exclude_if=lambda value: not value)
    """Id of the release that has to be current instead, where the job names the one before it."""
    trial: Trial | None = Field(default=None, exclude_if=lambda value: value is None)
    label: str = ""
    deadline_seconds: float = 0
    """0 means no deadline."""
    key: str = ""
    """Id of the API key that submitted the job."""
    key_line: str = ""
    """The line of that key (see `shared.security.api_keys`); its keys own the job."""
    after: tuple[str, ...] = ()
    """Ids of training jobs that must succeed first."""
    kept_label: str = Field(default="", exclude=True)
    """The label that the caller names, to be noted as what the job's conversation was last answered with; or empty."""
    trace: dict[str, str] = Field(default_factory=dict, exclude=True)
    """The trace context that the job continues (see `shared.observability.tracing`); empty without tracing."""

    @property
    def state(self) -> JobState:
        """The state in which the job is created."""
        return self.stage.waiting_state

    @property
    def priority(self) -> Priority:
        """Whether somebody waits for the job: interactive jobs are taken before batch jobs."""
        return "batch" if self.body.get("priority") == "batch" else "interactive"

    @property
    def conversation(self) -> str:
        """The conversation that the job belongs to, apart from those of other keys; empty where none is named."""
        return _conversation(self.body, self.key_line)

    @property
    def new_tokens(self) -> int:
        """The most tokens that the job may generate in all its choices: what one turn of its lane costs."""
        return int(self._params.get("n") or 1) * int(self._params.get("max_new_tokens") or DEFAULT_NEW_TOKENS)

    def kept_bytes(self, body: str) -> int:
        """Return how many bytes of the ledger the job may take with this body, and with the longest answer."""
        answer = _TRAINING_BYTES if self.kind is JobKind.TRAIN else self._token_bytes * self.new_tokens
        # The prompt is told as it is; the body may be compressed.
        explained = _EXPLAINED_BYTES + len(json.dumps(self.body)) if self.body.get("explain") else 0
        return _JOB_BYTES + len(body.encode()) + answer + explained

    @property
    def _params(self) -> Mapping[str, Any]:
        return self.body.get("params") or {}

    @property
    def _token_bytes(self) -> int:
        if not self._params.get("logprobs"):
            return _TOKEN_BYTES
        return _TOKEN_BYTES + _LOGPROB_BYTES + _TOP_BYTES * int(self._params.get("top_logprobs") or 0)

    @property
    def trains(self) -> dict[str, Any] | None:
        """What a training job is about: its kind and its labels, for lists, which do not read bodies."""
        if self.kind is not JobKind.TRAIN:
            return None
        label = self.body.get("label") or str(self.body.get("adapter") or "").partition("@")[0]
        about = {"kind": self.body.get("kind"), "labels": [label] if label else sorted(self.body.get("labels") or [])}
        return about | {mark: True for mark in ("fine_tuning", "rebase") if self.body.get(mark)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the request; it distinguishes a repeated request from another one under the same key."""
        request = json.dumps([self.kind, self.request or self.body, self.after], sort_keys=True)
        return hashlib.sha256(request.encode()).hexdigest()


class ListedJob(BaseModel):
    """A job as lists hold it: of `body`, `result` and `feedback`, which may be large, what was asked for.

    Times are milliseconds of the ledger's own clock.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant_id: str
    kind: JobKind
    state: JobState
    stage: Stage
    queue: str
    body: dict[str, Any] | None = None
    attempt: int = 0
    first_attempt: int = 1
    """Number of the first attempt of this stage."""
    lost_leases: int = 0
    release: str = ""
    rollout: str = ""
    shadow: str = ""
    """See `shared.contracts.rollouts.Trial`."""
    label: LabelText = ""
    key: str = ""
    """Id of the API key that submitted the job; empty in jobs from before it was noted."""
    key_line: str = ""
    """The line of that key."""
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
    trains: dict[str, Any] | None = None
    """What a training job is about; None in jobs from before it was noted."""
    has_consumer: bool = True
    """Whether a live worker serves the queue the job waits in."""

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> Self:
        """Read a job from the ledger's hash, whose values are strings."""
        plain: dict[str, Any] = dict(fields)
        for name in ("body", "selection", "progress", "result", "error", "feedback", "trace", "trains"):
            if name in plain:
                plain[name] = json.loads(unpack(plain[name]))
        plain["timestamps"] = {k[3:]: float(v) for k, v in fields.items() if k.startswith("at_")}
        return cls.model_validate(plain)

    @property
    def tries(self) -> int:
        """How many attempts at the job's stage have begun."""
        return max(0, self.attempt - self.first_attempt + 1)

    @property
    def waited_ms(self) -> float:
        """Milliseconds that an acquired job waited for its attempt, by the ledger's clock."""
        return self.timestamps[self.state] - self.waiting_since_ms

    @property
    def waiting_since_ms(self) -> float:
        """When the job began to wait for its stage, by the ledger's clock."""
        return self.timestamps[self.stage.waiting_state]

    @property
    def day(self) -> str:
        """The day (UTC, ISO) on which the job was accepted, which some chat templates write into a prompt."""
        return datetime.fromtimestamp(min(self.timestamps.values()) / 1000, UTC).date().isoformat()

    @property
    def seed(self) -> int:
        """Begins the job's random stream where its request names no seed: a later try then tells the same answer."""
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:6], "big")

    def stage_ms(self) -> dict[str, float]:
        """Milliseconds spent in each stage so far, by the ledger's clock."""
        at = self.timestamps
        end = next((at[s] for s in JobState if s.is_final and s in at), None)
        # Sort by time: a job that was returned entered `routed` after `running`.
        marks = sorted(((s, at[s]) for s in ("queued", "selecting", "routed", "running") if s in at), key=itemgetter(1))
        ends = [t for _, t in marks[1:]] + [end]
        return {name: round(until - since, 3) for (name, since), until in zip(marks, ends, strict=True) if until}


class Job(ListedJob):
    """A job as the ledger holds it, whole."""

    body: dict[str, Any]

    @property
    def conversation(self) -> str:
        """The conversation that the job belongs to, apart from those of other keys; empty where none is named."""
        return _conversation(self.body, self.key_line)
