"""How sure a release's selector was of the last jobs (`lua/queries.lua`)."""

from dataclasses import dataclass

from shared.ledger.calls.base import Call, Reply, never

SAMPLE = 1_000
"""Jobs that are looked at in all: a share of them is 1.6 points off (one standard error) at most."""
AT_ONCE = 250
"""Jobs that one call looks at: a few milliseconds, in which the server does nothing else."""


@dataclass(frozen=True)
class Confidences:
    """A slice of a tenant's jobs since a time, of which only some are looked at."""

    jobs: int
    """All jobs since that time."""
    confidences: list[float]
    """Of the jobs of this selector whose text lies not between two labels."""
    ambiguous: list[float]
    """Of those whose text does."""
    of_others: int
    """Jobs that another selector selected."""
    next: int
    """Where the next slice begins; -1 after the last one."""


def confidences(
    tenant_id: str, selector: str, since_ms: float, start: int = 0, *, sample: int = SAMPLE, limit: int = AT_ONCE
) -> Call[Confidences]:
    """Look at a slice of a tenant's jobs, newest first; `selector` is a digest."""
    args = {
        "tenant_id": tenant_id,
        "selector": selector,
        "since": f"{since_ms:.3f}",
        "from": start,
        "sample": sample,
        "limit": limit,
    }

    def read(reply: Reply) -> Confidences:
        lists = (list(reply["confidences"] or []), list(reply["ambiguous"] or []))
        return Confidences(reply["count"], *lists, reply["of_others"], reply["next"])

    return Call("confidences", args, read, never)
