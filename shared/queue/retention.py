"""Lets the time for which ended jobs are kept follow the ledger's room.

A job is kept for `result_ttl_seconds`. Where a tenant's jobs, or all that is in use, are above the high water, those
that ended first are forgotten earlier, but none before `min_result_ttl_seconds`: a tenant's own for its budget, and
those of the tenant that holds most for the whole. Waiting and running jobs are never touched.
"""

from collections.abc import Mapping

import structlog
from redis.exceptions import NoPermissionError

from shared.ledger import Ledger, as_ledger_away, calls
from shared.ledger.room import Room
from shared.observability import metrics
from shared.settings import Settings

log = structlog.get_logger()
_AT_ONCE = 200


class Retention:
    """Forgets ended jobs; part of every round of the reconciler."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings

    def round(self, held: Mapping[str, int]) -> None:
        """Forget what is due, and what has to make room; `held` are the bytes of each tenant."""
        self._ledger.do(calls.adopt_ended())
        room = self._room()
        for tenant_id, count in held.items():
            self._forget(tenant_id, room.excess_of(count))
        excess = self._room().excess
        for tenant_id in sorted(held, key=lambda tenant: -held[tenant]):
            if excess > 0:
                excess -= self._forget(tenant_id, excess)

    def _room(self) -> Room:
        try:
            with as_ledger_away():
                return Room.of(self._ledger.redis.info("memory"), self._settings)
        except NoPermissionError:  # users from before they could ask: nothing is bounded
            return Room(0, 0, self._settings)

    def _forget(self, tenant_id: str, excess: float) -> int:
        """Forget what is due and, where there is an excess, as much before its time; returns the freed bytes."""
        freed = early = 0
        count = _AT_ONCE
        while count == _AT_ONCE:
            count, early_now, freed_now = self._ledger.do(
                calls.forget(
                    tenant_id,
                    _AT_ONCE,
                    free_bytes=excess - freed,
                    min_ttl_seconds=self._settings.min_result_ttl_seconds,
                )
            )
            freed, early = freed + freed_now, early + early_now
        if early:
            log.warning("forgotten_early", tenant=tenant_id, jobs=early, freed_bytes=freed)
            metrics.JOBS_FORGOTTEN_EARLY.inc(early)
        return freed
