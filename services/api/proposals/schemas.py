"""Requests about proposals, and how they are shown."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.api.jobs.schemas import LabelText, Ref, Request
from shared.contracts.labels import check_adapter_label
from shared.contracts.proposals import (
    Act,
    AuditEntry,
    Canary,
    Cost,
    NewTask,
    Proposal,
    ProposalEvent,
    ProposalKind,
    ProposalPolicy,
    ProposalState,
)
from shared.ledger.calls import Learner


class ConfirmRequest(Request):
    """What is done otherwise than proposed."""

    label: Annotated[LabelText, AfterValidator(check_adapter_label)] | None = None
    """Of an `add`: the new label, in place of the suggested one."""
    dataset: Ref | None = None
    """Of an `add`: rows with answers, on which the label's adapter is trained at once."""
    retention: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None
    """Of an `add`, `balance` or `delete`: the share of old rows that the language model trains on again."""
    confirm_cost: bool = False
    """Train also where the estimate is above the operator's limit."""


class DismissRequest(Request):
    """Why a proposal is not carried out."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""


class PolicyView(BaseModel):
    """A tenant's policy, and how far its log is reviewed."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    mode: str
    review_every_rows: int
    ask: tuple[ProposalKind, ...]
    canary: Canary
    key: str
    """Id of the API key that carries it out; empty while nobody follows the log."""
    review_job: str
    """The review under way."""
    reviews: int
    reviewed_at: float | None
    note: str
    """Why it does not go on, and what to do."""

    @classmethod
    def of(cls, learner: Learner) -> Self:
        """Show a policy."""
        own, learning = learner.policy, learner.learning
        return cls(
            **{name: getattr(own, name) for name in ProposalPolicy.model_fields},
            key=learner.key,
            review_job=learning.job,
            reviews=learning.reviews,
            reviewed_at=learning.reviewed_at or None,
            note=learning.note,
        )


class Example(BaseModel):
    """A row of the traffic log; its text only where the key may read the log."""

    model_config = ConfigDict(frozen=True)

    entry: str
    text: str | None = None


class ProposalView(BaseModel):
    """One thing to do: why, with numbers, what it costs, the job it would queue, and what became of it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    id: str
    kind: ProposalKind
    labels: tuple[LabelText, ...]
    release: str
    state: ProposalState
    why: tuple[str, ...]
    numbers: dict[str, float]
    task: NewTask | None
    cost: Cost
    act: Act
    note: str
    """Why it is in this state, and what would help."""
    dataset: str
    jobs: tuple[str, ...]
    candidate: str
    rollout: str
    requests: int
    """Rows of the log that show it."""
    examples: list[Example]
    created_at: float
    ended_at: float | None
    events: tuple[ProposalEvent, ...]

    @classmethod
    def of(cls, proposal: Proposal, examples: Sequence[Example] = ()) -> Self:
        """Show a proposal."""
        same: dict[str, Any] = {name: getattr(proposal, name) for name in cls.model_fields if hasattr(proposal, name)}
        shown = {"requests": len(proposal.entries), "examples": examples, "ended_at": proposal.ended_at or None}
        return cls(**{**same, **shown})


class AuditView(AuditEntry):
    """An entry of the audit log, and its place there."""

    id: str


class AuditPage(BaseModel):
    """Entries, newest first, and the `before` of the next page; null at the end."""

    items: list[AuditView]
    next: str | None
