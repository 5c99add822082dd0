"""How much of what is limited everybody together, one tenant, and one line of API keys may take."""

from typing import NamedTuple


class Shares(NamedTuple):
    """Three limits on the same thing, in the order in which they are looked at; one that is 0 is none."""

    total: int
    tenant: int
    key: int

    @classmethod
    def of(cls, total: int, *, tenant: float, key: float) -> "Shares":
        """Return the limits where a tenant and a key may take these parts of the total, one at least; 1 is no limit."""
        return cls(total, *(max(1, int(total * part)) if part < 1 else 0 for part in (tenant, key)))


UNLIMITED = Shares(0, 0, 0)
