"""Proposals: what traffic teaches as things to do, each confirmed by a person or carried out by policy."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.labels import LabelText
from shared.contracts.reviews import NearestLabel
from shared.contracts.rollouts import MAX_STEPS

ProposalKind = Literal["retrain", "balance", "raise_threshold", "split_group", "add", "delete", "lower_threshold"]
ALWAYS_ASKED: frozenset[ProposalKind] = frozenset({"add", "delete", "lower_threshold"})
"""Kinds that no policy confirms: what comes or goes, and what lets more texts in, a person decides."""
Mode = Literal["observe", "propose", "train", "auto"]
MAX_EVENTS = 100
MAX_EXAMPLES = 10
DISMISSED_SECONDS = 30 * 24 * 3600.0
"""How long a dismissed proposal, or one that failed, stays away while its release is current."""


class Canary(BaseModel):
    """How `auto` rolls a candidate out; see `RolloutRequest`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1, max_length=MAX_STEPS)] = (
        1,
        5,
        25,
        50,
        100,
    )
    """Shares of the requests in percent, each above the one before it."""
    seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] = 600
    requests: Annotated[int, Field(ge=1, le=10_000_000)] = 100

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if any(later <= sooner for sooner, later in pairwise(self.steps)):
            raise ValueError("steps have to rise: put them in order")
        return self


class ProposalPolicy(BaseModel):
    """What a tenant lets its traffic do."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: Mode = "propose"
    """`observe` notes what would be proposed; `propose` waits for a person; `train` trains by itself and stops at the
    candidate; `auto` brings a candidate that passes the gate through a canary."""
    review_every_rows: Annotated[int, Field(ge=100, le=10_000)] = 500
    """New rows of the traffic log after which it is reviewed: a window of the review."""
    ask: Annotated[tuple[ProposalKind, ...], Field(max_length=7)] = ()
    """Kinds that wait for a person besides new labels, deletions and lower thresholds, which always do."""
    canary: Canary = Canary()

    @classmethod
    def read(cls, stored: str) -> Self:
        """Read what the ledger keeps, also from a later version."""
        return cls.model_validate_json(stored, extra="ignore")

    def confirms(self, kind: ProposalKind) -> bool:
        """Whether a proposal of this kind needs no person."""
        return self.mode in ("train", "auto") and kind not in ALWAYS_ASKED and kind not in self.ask

    @property
    def decider(self) -> str:
        """The name under which the policy decides."""
        return f"policy:{self.mode}"


class ProposalState(StrEnum):
    """The states of a proposal."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    """Its job is about to be queued."""
    TRAINING = "training"
    CANDIDATE = "candidate"
    """There is a candidate release, which waits to be promoted or rolled out."""
    ROLLING_OUT = "rolling_out"
    DONE = "done"
    FAILED = "failed"
    DISMISSED = "dismissed"
    OUTDATED = "outdated"
    """Another release is current than the one that it is about."""

    @property
    def is_final(self) -> bool:
        """Whether nothing moves it any more, unless it is proposed or confirmed anew."""
        return self in (_S.DONE, _S.FAILED, _S.DISMISSED, _S.OUTDATED)

    @property
    def is_at_work(self) -> bool:
        """Whether the system works on it."""
        return self in (_S.CONFIRMED, _S.TRAINING, _S.ROLLING_OUT)


_S = ProposalState


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ProposalEvent(_Said):
    """One thing that happened to a proposal."""

    at: float
    """Seconds since 1970."""
    what: str
    by: str = ""
    """Id of an API key, or `policy:` and its mode; empty where the controller noted it."""
    detail: str = ""


class Cost(_Said):
    """What a proposal takes."""

    seconds: float | None = None
    """Of training the language model; null where none is trained, or nothing is known to estimate by."""
    needs_confirmation: bool = False
    """Whether the estimate is above the operator's limit; then a person has to confirm."""
    says: str = ""


class NewTask(_Said):
    """What a proposed label would need."""

    terms: tuple[str, ...] = ()
    nearest: tuple[NearestLabel, ...] = ()
    stability: float = 0.0
    texts: int = 0
    least_rows: int = 0
    """Rows with answers without which its adapter's training does not start."""
    advised_rows: int = 0


class Act(_Said):
    """What a proposal does: trainings, of which the last makes the candidate, or an edit of the current release."""

    trainings: tuple[dict[str, Any], ...] = ()
    edit: dict[str, Any] | None = None


class Proposal(_Said):
    """One thing to do; times are seconds since 1970."""

    id: str
    tenant_id: str
    version: int = 0
    """Number of the last write: another write counts only under the next one."""
    release: str
    """The release that it is about, and that its candidate would replace."""
    kind: ProposalKind
    labels: tuple[LabelText, ...] = ()
    why: tuple[str, ...] = ()
    numbers: Mapping[str, float] = Field(default_factory=dict)
    entries: tuple[str, ...] = ()
    """Rows of the traffic log that show it, the most typical first; of an `add`, all that would become its data."""
    task: NewTask | None = None
    cost: Cost = Cost()
    act: Act = Act()
    state: ProposalState = ProposalState.OPEN
    round: int = 1
    """How often it was confirmed, or will have been."""
    key: str = ""
    """Id of the API key with whose rights it is carried out."""
    dataset: str = ""
    """The data set that its confirmation made of the log."""
    jobs: tuple[str, ...] = ()
    """Its training jobs; the last makes the candidate."""
    candidate: str = ""
    rollout: str = ""
    note: str = ""
    """Why it is in this state, and what would help."""
    created_at: float
    changed_at: float = 0.0
    ended_at: float = 0.0
    events: tuple[ProposalEvent, ...] = ()

    def told(self, at: float, what: str, by: str = "", detail: str = "", **changes: Any) -> Self:
        """Return the next version, with changes and an event; the oldest events go."""
        event = ProposalEvent(at=at, what=what, by=by, detail=detail)
        same = {"version": self.version + 1, "changed_at": at, "events": (*self.events, event)[-MAX_EVENTS:]}
        return self.model_copy(update={**same, **changes})

    def entered(self, state: ProposalState, at: float, by: str = "", note: str = "", **changes: Any) -> Self:
        """Return the next version in another state; one that is over keeps a few examples of its rows."""
        same = {"state": state, "note": note, "ended_at": at if state.is_final else 0.0}
        if state in (_S.DONE, _S.OUTDATED):
            same["entries"] = self.entries[:MAX_EXAMPLES]
        return self.told(at, state, by, note, **{**same, **changes})

    def job_key(self, number: int) -> str:
        """The idempotency key of one of its trainings: killed between two steps, it queues none twice."""
        return f"{self.id} {self.round} {number}"  # no header may have a space, so no request of a caller takes it

    @property
    def maker(self) -> str:
        """What its edited release names as its maker."""
        return f"{self.id}/{self.round}"


class Wish(NamedTuple):
    """What a rule finds worth doing; equal wishes (kind, labels, release) are one proposal."""

    kind: ProposalKind
    labels: tuple[str, ...]
    why: tuple[str, ...]
    act: Act = Act()
    numbers: Mapping[str, float] = {}
    entries: tuple[str, ...] = ()
    task: NewTask | None = None
    cost: Cost = Cost()

    def id_of(self, tenant_id: str, release: str) -> str:
        """The id of the proposal that it is."""
        return proposal_id(tenant_id, release, self.kind, self.labels)


class AuditEntry(_Said):
    """One step of what traffic led to, and who or what decided it."""

    at: float
    by: str
    """Id of an API key, `policy:` and its mode, or `controller`."""
    what: str
    proposal: str = ""
    detail: str = ""
    numbers: Mapping[str, float] = Field(default_factory=dict)


class Learning(_Said):
    """Where the controller stands with a tenant's log."""

    job: str = ""
    """The review under way."""
    job_at: float = 0.0
    reviews: int = 0
    """Reviews that were queued."""
    reviewed_to: str = "0-0"
    """Entry of the last row that a review has seen."""
    upto: str = "0-0"
    """The same, of the review under way."""
    reviewed_at: float = 0.0
    note: str = ""
    """Why it does not go on, and what to do."""


def proposal_id(tenant_id: str, release: str, kind: str, labels: Sequence[str]) -> str:
    """Return the id that follows from what is proposed for which release."""
    wish = json.dumps([tenant_id, release, kind, sorted(labels)])
    return f"prop_{hashlib.sha256(wish.encode()).hexdigest()[:24]}"
