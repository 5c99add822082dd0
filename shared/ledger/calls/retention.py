"""What a tenant's jobs may take of the ledger, and what ended jobs give back of it (`lua/retention.lua`)."""

import math
from typing import Any, NamedTuple

from shared.errors import TooMany
from shared.ledger.calls.base import Call, Reply, never, nothing

BUDGET_USED = "ledger_budget_used"
"""Code of the error of a tenant whose jobs take all that they may."""


class TenantBudget(NamedTuple):
    """The most bytes that one tenant's jobs may take (0 means no limit), and how long an ended one is kept at least."""

    most_bytes: int
    min_ttl_seconds: float

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of an operation that takes room."""
        return {"max_held": self.most_bytes, "min_ms": self.min_ttl_seconds * 1000}

    def exceeded(self, reply: Reply) -> TooMany:
        """Return the error of an operation that there is no room for."""
        seconds = math.ceil(reply["wait_ms"] / 1000)
        return TooMany(
            BUDGET_USED,
            f"this tenant's jobs take all of the {self.most_bytes / 2**20:.0f} MiB that they may: wait until some have "
            "ended and the oldest are forgotten, send shorter texts, or ask for shorter answers",
            retry_after_seconds=max(seconds, _LEAST_SECONDS),
        )


NO_BUDGET = TenantBudget(0, 0)
_LEAST_SECONDS = 5


class Forgotten(NamedTuple):
    """Records of ended jobs that a call forgot, those of them before their time, and the bytes of all."""

    records: int
    early: int
    freed_bytes: int


def forget(tenant_id: str, limit: int, *, free_bytes: float, min_ttl_seconds: float) -> Call[Forgotten]:
    """Forget ended jobs of a tenant whose time is over, and the oldest others until so many bytes are free.

    These others ended at least `min_ttl_seconds` ago. The call blocks the ledger for 10 us per job: repeat it until it
    counts less than `limit`.
    """
    args = {"tenant_id": tenant_id, "limit": limit, "bytes": max(0, free_bytes), "min_ms": min_ttl_seconds * 1000}
    return Call("forget", args, lambda r: Forgotten(r["count"], r["early"], r["freed"]), never)


def adopt_ended(limit: int = 1000) -> Call[None]:
    """Take over the jobs that processes of an earlier version ended."""
    return Call("adopt_ended", {"limit": limit}, nothing, never)
