"""Whether the ledger has room for more work: looked at once a second, not for every job."""

import contextlib
import time
from collections.abc import Iterator

from redis.exceptions import NoPermissionError

from shared.errors import TooMany
from shared.ledger import AsyncLedger, as_ledger_away
from shared.ledger.calls import BUDGET_USED, TenantBudget
from shared.ledger.keys import LedgerKey
from shared.ledger.room import Room
from shared.settings import Settings

_LOOK_SECONDS = 1.0
_PROBE_SECONDS = 60


class LedgerRoom:
    """The ledger's memory as it was a moment ago."""

    def __init__(self, ledger: AsyncLedger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._room = Room(0, 0, settings)
        self._look_at = 0.0
        self._refusals: dict[str, tuple[float, TooMany]] = {}

    async def budget(self, tenant_id: str) -> TenantBudget:
        """Return what the tenant's jobs may take; raises `Unavailable` `ledger_full` where nobody's may take more.

        Raises `TooMany` where this tenant was refused a moment ago: a refusal must cost others little.
        """
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS  # first: who comes meanwhile takes the former answer
            await self.look()
        self._room.check()
        until, refusal = self._refusals.get(tenant_id, (0.0, None))
        if refusal and time.monotonic() < until:
            raise TooMany(refusal.code, refusal.detail, retry_after_seconds=refusal.retry_after_seconds)
        return self._room.budget

    @contextlib.contextmanager
    def noting(self, tenant_id: str) -> Iterator[None]:
        """Remember for a moment that the ledger has refused the tenant."""
        try:
            yield
        except TooMany as refusal:
            if refusal.code == BUDGET_USED:
                self._refusals[tenant_id] = time.monotonic() + _LOOK_SECONDS, refusal
            raise

    async def look(self) -> Room:
        """Ask the server now; where its users are from before they could, nothing is bounded."""
        with as_ledger_away(), contextlib.suppress(NoPermissionError):
            self._room = Room.of(await self._ledger.redis.info("memory"), self._settings)
        return self._room

    async def check_write(self) -> None:
        """Write something; raises `Unavailable` where the server takes no writes, or where new jobs are refused."""
        with as_ledger_away():
            await self._ledger.redis.set(LedgerKey.PROBE, 1, ex=_PROBE_SECONDS)
        (await self.look()).check()
