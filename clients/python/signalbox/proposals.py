"""Calls about what traffic proposes to do: proposals, the policy that may carry them out, the audit log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from signalbox.call import Call, given, items, posted
from signalbox.requests import Request
from signalbox.results import Record

_PATH = "/v1/proposals"


@dataclass(frozen=True, kw_only=True)
class Proposal(Record):
    """One thing to do: why, with numbers, what it costs, and what became of it."""

    id: str
    kind: str
    state: str
    labels: list[str] = field(default_factory=list)
    release: str = ""
    """The release that it is about."""
    why: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    act: dict[str, Any] = field(default_factory=dict)
    """The trainings, or the edit of the release, that a confirmation leads to."""
    note: str = ""
    """Why it is in this state, and what would help."""
    jobs: list[str] = field(default_factory=list)
    candidate: str = ""
    rollout: str = ""
    requests: int = 0
    """Rows of the traffic log that show it."""
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class AuditEntry(Record):
    """One step of what traffic led to, and who or what decided it."""

    id: str
    at: float
    by: str = ""
    what: str = ""
    proposal: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditPage(Record):
    """Entries of the audit log, newest first; `next` is the `before` of the next page, None at the end."""

    _KINDS: ClassVar[Mapping[str, type[Record]]] = {"items": AuditEntry}
    items: list[AuditEntry]
    next: str | None = None


def proposals(*, state: str | None = None) -> Call[list[Proposal]]:
    """What traffic proposes to do, newest first."""
    return Call(Request("GET", _PATH, params={"state": state}), items(Proposal))


def proposal(proposal_id: str) -> Call[Proposal]:
    """One proposal, with examples of the requests that show it."""
    return Call(Request("GET", f"{_PATH}/{proposal_id}"), Proposal.from_dict)


def confirm_proposal(
    proposal_id: str,
    *,
    label: str | None = None,
    dataset: str | None = None,
    retention: float | str | None = None,
    confirm_cost: bool = False,
    idempotency_key: str | None = None,
) -> Call[Proposal]:
    """Carry a proposal out.

    Of a new label, `label` replaces the suggested name, and `dataset` names rows with answers for its adapter.
    """
    body = given({"label": label, "dataset": dataset, "retention": retention, "confirm_cost": confirm_cost or None})
    return Call(posted(f"{_PATH}/{proposal_id}/confirm", body, idempotency_key), Proposal.from_dict)


def dismiss_proposal(proposal_id: str, *, reason: str = "") -> Call[Proposal]:
    """Let a proposal stay away until its release is no longer current, or 30 days have passed."""
    return Call(Request("POST", f"{_PATH}/{proposal_id}/dismiss", json={"reason": reason}), Proposal.from_dict)


def proposal_policy() -> Call[dict[str, Any]]:
    """What traffic may do by itself, and how far its log is reviewed."""
    return Call(Request("GET", f"{_PATH}/policy"), dict)


def set_proposal_policy(
    mode: str,
    *,
    review_every_rows: int | None = None,
    ask: Sequence[str] | None = None,
    canary: Mapping[str, Any] | None = None,
) -> Call[dict[str, Any]]:
    """Replace what traffic may do by itself: `observe`, `propose`, `train` or `auto`, carried out with this key.

    What is left out gets its default.
    """
    body = given({
        "mode": mode,
        "review_every_rows": review_every_rows,
        "ask": None if ask is None else list(ask),
        "canary": None if canary is None else dict(canary),
    })  # fmt: skip
    return Call(Request("PUT", f"{_PATH}/policy", json=body), dict)


def audit(*, before: str | None = None, limit: int = 100) -> Call[AuditPage]:
    """Each step of what traffic led to, newest first, with who or what decided it."""
    return Call(Request("GET", "/v1/audit", params={"before": before, "limit": limit}), AuditPage.from_dict)
