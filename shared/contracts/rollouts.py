"""Rollouts: a candidate release tried beside the current one on a growing share of the requests, under analysis."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

Strategy = Literal["canary", "shadow"]
"""Whether the candidate answers its share of the requests, or only its selector reads them beside the current one's."""
StickBy = Literal["job", "key"]
"""What decides under which release a request runs that belongs to no conversation: itself, or its sender's keys."""
MAX_STEPS = 20
MAX_EVENTS = 200
FALSE_ALARMS = 0.05
"""At most this share of rollouts of an equal candidate is taken back, however often the analysis looks."""


class RolloutState(StrEnum):
    """The states of a rollout."""

    CHECKING = "checking"
    """Workers are waited for, then the candidate's changed adapters answer golden rows; it gets no requests yet."""
    RUNNING = "running"
    HOLDING = "holding"
    """A step is over and the analysis cannot tell; it goes on looking at the same share, or a person decides."""
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    """It was taken back."""
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        """Whether the rollout has ended."""
        return self in (_S.COMPLETED, _S.FAILED, _S.ABORTED)

    @property
    def has_requests(self) -> bool:
        """Whether the candidate gets its share of the requests."""
        return self in (_S.RUNNING, _S.HOLDING)


_S = RolloutState


class RolloutStep(BaseModel):
    """A share of the requests, and what a step takes at least."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    percent: Annotated[int, Field(ge=1, le=100)]
    """Of the requests; 100 promotes the candidate."""
    seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] = 600
    requests: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    """That the candidate has to have ended."""


class Tally(NamedTuple):
    """How many requests something can be said of, and of how many it is true."""

    seen: int = 0
    hits: int = 0

    def plus(self, is_hit: bool) -> "Tally":
        """Return the tally with one request more."""
        return Tally(self.seen + 1, self.hits + is_hit)

    @property
    def share(self) -> float:
        """The share of hits; 0 of none."""
        return self.hits / self.seen if self.seen else 0.0


Tallies = Mapping[str, Tally]
"""By what is counted (`services/api/rollouts/analysis.py` has the names)."""


class StepCounts(BaseModel):
    """What was counted in one step, of each release's requests; releases are compared within steps."""

    model_config = ConfigDict(frozen=True)

    current: Tallies = Field(default_factory=dict)
    candidate: Tallies = Field(default_factory=dict)


class RolloutEvent(BaseModel):
    """One thing that happened to a rollout."""

    model_config = ConfigDict(frozen=True)

    at: float
    """Seconds since 1970."""
    what: str
    detail: str = ""
    by: str = ""
    """Id of the API key that asked for it; empty where the controller did it."""


class Golden(NamedTuple):
    """What golden rows have shown: the mean likeness of answers to the rows' own."""

    rows: int
    candidate: float
    before: float


class Rollout(BaseModel):
    """The record of one rollout, written by whoever holds its lease; times are seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant_id: str
    release: str
    """Id of the candidate."""
    current: str
    """Id of the release that it is compared with, its parent."""
    strategy: Strategy = "canary"
    steps: tuple[RolloutStep, ...]
    failure_limit: int = 0
    """Looks in a row that may fail before it is taken back."""
    stick_by: StickBy = "job"
    force: bool = False
    """Whether the gate's verdict was overruled."""
    key: str = ""
    """Id of the API key that began it."""
    key_line: str = ""
    state: RolloutState = RolloutState.CHECKING
    step: int = 0
    step_began_at: float = 0
    created_at: float
    ended_at: float = 0
    paused_in: RolloutState = RolloutState.CHECKING
    """The state to which `resume` returns."""
    why: str = ""
    """Why it is in this state, and what would help."""
    counts: tuple[StepCounts, ...] = ()
    slow_from: Mapping[str, float] = Field(default_factory=dict)
    """From which value on something is slow or long: the 95th percentile of the current release's first requests."""
    first: Mapping[str, tuple[float, ...]] = Field(default_factory=dict)
    """Those requests' values, until there are enough."""
    cursor: str = "0"
    """The last trial that `counts` holds."""
    failures: int = 0
    golden: Mapping[str, Golden] = Field(default_factory=dict)
    """By label, what its golden rows have shown."""
    events: tuple[RolloutEvent, ...] = ()

    @property
    def percent(self) -> int:
        """The share of the requests that the candidate gets now."""
        return self.steps[self.step].percent if self.state.has_requests else 0

    def told(self, at: float, what: str, detail: str = "", by: str = "", **changes: object) -> Self:
        """Return the record with changes and an event; the oldest events go."""
        event = RolloutEvent(at=at, what=what, detail=detail, by=by)
        return self.model_copy(update={"events": (*self.events, event)[-MAX_EVENTS:], **changes})

    def entered(self, state: RolloutState, at: float, why: str, by: str = "", **changes: object) -> Self:
        """Return the record in another state."""
        ended = {"ended_at": at} if state.is_final else {}
        return self.told(at, state, why, by, state=state, why=why, **ended, **changes)


class Trial(NamedTuple):
    """That a job counts for a rollout, under either of its releases."""

    rollout: str
    percent: int
    """The rollout's share when the job was placed; the ledger refuses the job if it is another now."""
    shadow: str = ""
    """Id of the release whose selector reads the job, too, and answers nothing."""


class OpenRollout(NamedTuple):
    """What whoever accepts requests knows of a tenant's rollout."""

    id: str
    release: str
    current: str
    percent: int
    strategy: Strategy
    stick_by: StickBy

    def picks(self, unit: str) -> bool:
        """Whether the requests of a unit (a conversation, a line of keys, a job) belong to the candidate's share.

        Whoever belongs to a share belongs to each larger one.
        """
        digest = hashlib.sha256(f"{self.id}/{unit}".encode()).digest()
        return int.from_bytes(digest[:8], "big") * 100 < self.percent * 2**64


def new_rollout_id() -> str:
    """Return a new id."""
    return f"rol_{secrets.token_hex(12)}"


def falling_step(steps: Sequence[RolloutStep]) -> int | None:
    """Return the number of the first step (from 1) whose share is not above the one before it."""
    shares = [step.percent for step in steps]
    return next((n for n in range(1, len(shares)) if shares[n] <= shares[n - 1]), None)
