"""How much of its memory the ledger gives to jobs: what its server says, and what the settings make of that."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from shared.errors import Unavailable
from shared.ledger.calls import TenantBudget
from shared.settings import Settings


class Room(NamedTuple):
    """Bytes in use, and the most that the server takes (0 means no limit: then nothing is bounded here)."""

    used: int
    most: int
    settings: Settings

    @classmethod
    def of(cls, memory: Mapping[str, Any], settings: Settings) -> "Room":
        """Read the server's `INFO memory`."""
        uncounted = int(memory.get("mem_not_counted_for_evict", 0))
        return cls(int(memory["used_memory"]) - uncounted, int(memory["maxmemory"]), settings)

    @property
    def for_jobs(self) -> int:
        """What may be in use while new jobs are taken; the rest is for those that were accepted."""
        return int(self.most * (1 - self.settings.ledger_reserve))

    @property
    def budget(self) -> TenantBudget:
        """What one tenant's jobs may take."""
        most = max(1, int(self.for_jobs * self.settings.tenant_ledger_share)) if self.most else 0
        return TenantBudget(most, self.settings.min_result_ttl_seconds)

    @property
    def is_full(self) -> bool:
        """Whether new jobs are refused."""
        return self.most > 0 and self.used >= self.for_jobs

    def check(self) -> None:
        """Raise `Unavailable` `ledger_full` where new jobs are refused."""
        if self.is_full:
            raise Unavailable(
                "ledger_full",
                f"the job ledger (Redis) uses {self.used >> 20} of {self.most >> 20} MiB and keeps the rest for jobs "
                "that were accepted: try again later, or give it more memory",
                retry_after_seconds=10,
            )

    @property
    def excess(self) -> float:
        """Bytes above the high water of what is for jobs."""
        return self.used - self.settings.ledger_high_water * self.for_jobs if self.most else 0

    def excess_of(self, held: int) -> float:
        """Return the bytes by which a tenant that holds so many is above the high water of its budget."""
        return held - self.settings.ledger_high_water * self.budget.most_bytes if self.most else 0
