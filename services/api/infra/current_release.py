"""The current release of each tenant, known to the process without asking."""

import asyncio
from typing import NamedTuple

import redis

from shared.contracts.manifests import Release
from shared.errors import Conflict
from shared.registry import Registry, ReleaseWatch


class CurrentRelease(NamedTuple):
    """A release and its id, which is a hash of all its content: made once, not for every request."""

    id: str
    release: Release


class CurrentReleases:
    """One watch per tenant that has asked; reading the release costs nothing, refreshing it runs in a thread."""

    def __init__(self, registry: Registry, client: "redis.Redis", *, poll_seconds: float) -> None:
        self._registry = registry
        self._redis = client
        self._poll_seconds = poll_seconds
        self._watches: dict[str, ReleaseWatch] = {}
        self._current: dict[str, CurrentRelease] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    async def current(self, tenant_id: str) -> CurrentRelease:
        """The current release; raises `Conflict` `no_release` where the tenant has none yet."""
        watch = self._watches.get(tenant_id)
        if watch is None or watch.current is None:
            await self.refresh(tenant_id)
            watch = self._watches[tenant_id]
        if watch.current is None:
            raise Conflict(
                "no_release",
                "there is no release yet: add or train adapters, train a selector, then promote its release",
            )
        known = self._current.get(tenant_id)
        if known is None or known.release is not watch.current:
            known = self._current[tenant_id] = CurrentRelease(watch.current.id, watch.current)
        return known

    async def refresh(self, tenant_id: str) -> None:
        """Read the pointer now; callers that come meanwhile wait for the same look."""
        task = self._refreshing.get(tenant_id)
        if task is None:
            task = self._refreshing[tenant_id] = asyncio.create_task(asyncio.to_thread(self._look, tenant_id))
            task.add_done_callback(lambda _: self._refreshing.pop(tenant_id))
        await asyncio.shield(task)

    def close(self) -> None:
        """Stop following."""
        for watch in self._watches.values():
            watch.stop()

    def _look(self, tenant_id: str) -> None:
        watch = self._watches.get(tenant_id)
        if watch is not None:
            watch.refresh()
            return
        watch = ReleaseWatch(self._registry, self._redis, tenant_id, lambda _: None, poll_seconds=self._poll_seconds)
        watch.start()
        self._watches[tenant_id] = watch
