"""Which rollouts are open, as this process last read it: to place a request costs no call."""

from typing import Any, NamedTuple

import redis
import structlog

from shared.contracts.rollouts import OpenRollout, Rollout
from shared.errors import SignalboxError
from shared.ledger.keys import LedgerKey
from shared.registry import CurrentRelease
from shared.registry.releases import Releases

log = structlog.get_logger()


class OnTrial(NamedTuple):
    """An open rollout with its candidate."""

    rollout: OpenRollout
    candidate: CurrentRelease


class OpenRollouts:
    """The open rollouts of all tenants, read again at each poll and hint of the release pointers.

    The ledger refuses a job that was placed by another share than the rollout has; then it is read at once.
    """

    def __init__(self, releases: Releases, client: "redis.Redis") -> None:
        self._releases = releases
        self._redis = client
        self._known: dict[str, OnTrial] = {}

    def read(self, tenant_id: str) -> None:
        """Read a tenant's open rollout now; it blocks. Raises `RedisError`."""
        found: Any = self._redis.hmget(LedgerKey.ROLLOUT.of(tenant_id), "record", "percent")
        record, percent = found
        if record is None:
            self._known.pop(tenant_id, None)
            return
        kept = Rollout.model_validate_json(record)
        open_one = OpenRollout(kept.id, kept.release, kept.current, int(percent), kept.strategy, kept.stick_by)
        known = self._known.get(tenant_id)
        try:
            candidate = (
                known.candidate
                if known and known.candidate.id == kept.release
                else CurrentRelease(kept.release, self._releases.get(tenant_id, kept.release))
            )
        except SignalboxError as error:  # its jobs would fail: all stay under the current release
            log.error("candidate_not_read", rollout=kept.id, code=error.code, detail=error.detail)
            self._known.pop(tenant_id, None)
        else:
            self._known[tenant_id] = OnTrial(open_one, candidate)

    def of(self, tenant_id: str, current_id: str) -> OnTrial | None:
        """Return the open rollout beside this current release."""
        known = self._known.get(tenant_id)
        return known if known and known.rollout.current == current_id else None
