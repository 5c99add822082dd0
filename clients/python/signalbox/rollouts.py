"""Calls about rollouts: a candidate release on a growing share of the requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from signalbox.call import Call, given, items, posted
from signalbox.requests import Request
from signalbox.results import Record


@dataclass(frozen=True, kw_only=True)
class Rollout(Record):
    """A candidate release on a share of the requests."""

    id: str
    release: str
    """The candidate."""
    current: str = ""
    """The release that it is compared with."""
    strategy: str = "canary"
    state: str = ""
    why: str = ""
    """Why it is in this state, and what would help."""
    step: int = 1
    percent: int = 0
    """The share of the requests that the candidate gets now."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    """By fault, the shares of both releases' requests that show it, their difference, and how sure that is."""
    events: list[dict[str, Any]] = field(default_factory=list)


def begin_rollout(
    release_id: str,
    *,
    strategy: str = "canary",
    steps: Sequence[int | Mapping[str, Any]] | None = None,
    seconds: float | None = None,
    requests: int | None = None,
    failure_limit: int | None = None,
    stick_by: str | None = None,
    force: bool = False,
    idempotency_key: str | None = None,
) -> Call[Rollout]:
    """Try a candidate on a share of the requests, and promote it, or take it back, by what they show.

    `steps` are shares in percent; each takes `seconds` and `requests` of the candidate at least, or says its own, as in
    `{"percent": 5, "seconds": 60, "requests": 50}`. With the strategy `shadow`, its selector reads along, no more.
    """
    body = given({
        "strategy": strategy,
        "steps": None if steps is None else list(steps),
        "seconds": seconds,
        "requests": requests,
        "failure_limit": failure_limit,
        "stick_by": stick_by,
        "force": force or None,
    })  # fmt: skip
    return Call(posted(f"/v1/releases/{release_id}/rollout", body, idempotency_key), Rollout.from_dict)


def rollouts() -> Call[list[Rollout]]:
    """All rollouts, the open one first, then the newest."""
    return Call(Request("GET", "/v1/rollouts"), items(Rollout))


def rollout(rollout_id: str) -> Call[Rollout]:
    """One rollout: its state, what its requests say, its events."""
    return Call(Request("GET", f"/v1/rollouts/{rollout_id}"), Rollout.from_dict)


def pause_rollout(rollout_id: str) -> Call[Rollout]:
    """Send the candidate no requests until it is resumed."""
    return _asked(rollout_id, "pause")


def resume_rollout(rollout_id: str) -> Call[Rollout]:
    """Go on with a paused rollout, with its step from the beginning."""
    return _asked(rollout_id, "resume")


def promote_rollout(rollout_id: str) -> Call[Rollout]:
    """Promote the candidate now, whatever step it is in."""
    return _asked(rollout_id, "promote")


def abort_rollout(rollout_id: str) -> Call[Rollout]:
    """Take the candidate back."""
    return _asked(rollout_id, "abort")


def _asked(rollout_id: str, command: str) -> Call[Rollout]:
    return Call(Request("POST", f"/v1/rollouts/{rollout_id}/{command}", json={}), Rollout.from_dict)
