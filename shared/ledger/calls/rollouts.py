"""Rollouts of candidate releases (`lua/rollouts.lua`)."""

import json
from typing import Any, NamedTuple

from shared.contracts.rollouts import Rollout
from shared.errors import Conflict, NotFound, SignalboxError
from shared.ledger.calls.base import Call, Reply, never, nothing


class StaleRollout(Conflict):
    """Another process has this rollout now: write nothing."""


class Asked(NamedTuple):
    """What a key asked a rollout for; empty where nobody did."""

    command: str = ""
    by: str = ""

    @classmethod
    def read(cls, text: str) -> "Asked":
        """Read what the ledger keeps."""
        command, _, by = text.partition("|")
        return cls(command, by)

    def __str__(self) -> str:
        return f"{self.command}|{self.by}" if self.command else ""


class TakenRollout(NamedTuple):
    """A rollout under a lease: `fence` is the lease's number, under which its writes are taken."""

    rollout: Rollout
    asked: Asked
    fence: int


def begin_rollout(rollout: Rollout) -> Call[None]:
    """Open a rollout; raises `Conflict` `rollout_open`, `stale_parent`, and `NotFound`."""

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "open":
            return Conflict(
                "rollout_open", f"rollout {reply['id']} has not ended: wait for it, or abort it (one at a time)"
            )
        if reply["refused"] == "gone":
            return NotFound("release_not_found", f"release {rollout.release} was deleted meanwhile; take another")
        return Conflict(
            "stale_parent",
            f"the current release is {reply['current'] or 'none'}, not {rollout.current or 'none'}, which "
            f"{rollout.release} was made from; build it anew: `signalbox releases rebuild {rollout.release}`",
        )

    args = {
        "id": rollout.id,
        "tenant_id": rollout.tenant_id,
        "release": rollout.release,
        "current": rollout.current,
        "record": rollout.model_dump_json(),
    }
    return Call("begin_rollout", args, nothing, refused)


def rollouts(tenant_id: str) -> Call[tuple[Rollout | None, list[Rollout]]]:
    """Return a tenant's open rollout, and those that have ended, oldest first."""

    def read(reply: Reply) -> tuple[Rollout | None, list[Rollout]]:
        open_one = Rollout.model_validate_json(reply["open"]) if reply["open"] else None
        return open_one, [Rollout.model_validate_json(record) for record in reply["ended"] or []]

    return Call("rollouts", {"tenant_id": tenant_id}, read, never)


def take_rollout(lease_seconds: float) -> Call[TakenRollout | None]:
    """Lease a rollout that nobody holds; None where there is none."""

    def read(reply: Reply) -> TakenRollout | None:
        taken = reply.get("taken")
        if not taken:
            return None
        rollout = Rollout.model_validate_json(taken["record"])
        return TakenRollout(rollout, Asked.read(taken["asked"]), int(taken["fence"]))

    return Call("take_rollout", {"lease_ms": lease_seconds * 1000}, read, never)


def write_rollout(
    rollout: Rollout,
    fence: int,
    lease_seconds: float,
    *,
    answered: Asked | None = None,
    event: str = "",
    is_changed: bool = True,
) -> Call[Asked]:
    """Write the record (where it `is_changed`) and renew the lease; returns what is asked. Raises `StaleRollout`.

    `answered` is what the record answers; `event` names what webhooks are told.
    """
    args = {
        "id": rollout.id,
        "tenant_id": rollout.tenant_id,
        "release": rollout.release,
        "fence": fence,
        "lease_ms": lease_seconds * 1000,
        "record": rollout.model_dump_json() if is_changed else "",
        "percent": rollout.percent,
        "cursor": rollout.cursor,
        "ended": rollout.state.is_final,
        "answered": str(answered or ""),
        "event": event,
        "why": rollout.why,
    }
    return Call("write_rollout", args, lambda reply: Asked.read(reply["asked"]), _stale)


def ask_rollout(tenant_id: str, rollout_id: str, asked: Asked, *, stops: bool) -> Call[None]:
    """Ask for something; with `stops`, the candidate gets no more requests. Raises `NotFound`."""

    def refused(_: Reply) -> SignalboxError:
        return NotFound("rollout_not_found", f"no open rollout {rollout_id}; `signalbox rollouts list` shows them")

    args = {"tenant_id": tenant_id, "id": rollout_id, "asked": str(asked), "stops": stops}
    return Call("ask_rollout", args, nothing, refused)


def note_shadow(tenant_id: str, rollout_id: str, job_id: str, seen: dict[str, Any]) -> Call[None]:
    """Note what a candidate's selector says of a job that the current release answers."""
    args = {"tenant_id": tenant_id, "rollout": rollout_id, "id": job_id, "seen": json.loads(json.dumps(seen))}
    return Call("note_shadow", args, nothing, never)


def _stale(_: Reply) -> SignalboxError:
    return StaleRollout("rollout_lost", "another process has this rollout now: leave it to that one")
