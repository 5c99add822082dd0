"""Selections as they are counted and logged, by one process at a time (`lua/traffic.lua`)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shared.contracts.traffic import Seen
from shared.errors import Conflict, SignalboxError
from shared.ledger.calls.base import Call, Reply, dump, never, nothing


class Turn(NamedTuple):
    """The right to count and log: `fence` is its number, under which its writes are taken."""

    fence: int
    cursor: str
    """The last entry that was counted and logged."""
    was_lost: bool
    """Whether the turn before was never ended: what its process stored last may count nowhere."""


class StaleTurn(Conflict):
    """Another process has its turn now: write nothing."""


class TrafficMoved(Conflict):
    """A policy is another one by now: make the rows anew."""


def counted(selection: Mapping[str, Any]) -> str:
    """Return what is noted of a selection; empty where none was made."""
    return dump(Seen.of(selection)) if selection else ""


def take_turn(lease_seconds: float, *, if_new: bool = False) -> Call[Turn | None]:
    """Take the turn where nobody has it, with `if_new` only where a selection waits; None otherwise."""

    def read(reply: Reply) -> Turn | None:
        return Turn(**reply) if "fence" in reply else None

    return Call("take_turn", {"lease_ms": lease_seconds * 1000, "if_new": if_new}, read, never)


def write_traffic(
    fence: int,
    lease_seconds: float,
    *,
    cursor: str = "",
    policies: Mapping[str, str] | None = None,
    added: Sequence[tuple[str, str, str]] = (),
    removed: Sequence[tuple[str, str]] = (),
    sketches: Sequence[tuple[str, int, str, str]] = (),
) -> Call[None]:
    """Write what a turn made, all of it or nothing, and renew the turn; a lease of 0 seconds ends it.

    `policies` are those that the rows were made by, as they are kept, by tenant. Parts are (tenant, name, what is
    known of it), sketches (tenant, hour, release, counts). Raises `StaleTurn`, `TrafficMoved`.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "policy_moved":
            return TrafficMoved("traffic_policy_moved", "a policy of the traffic log changed meanwhile: try again")
        return StaleTurn("traffic_turn_stale", "another process writes the traffic log now: try again")

    args = {
        "fence": fence,
        "lease_ms": lease_seconds * 1000,
        "cursor": cursor,
        "policies": list((policies or {}).items()),
        "added": list(added),
        "removed": list(removed),
        "sketches": list(sketches),
    }
    return Call("write_traffic", args, nothing, refused)
