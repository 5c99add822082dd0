"""Caches the current release of each tenant in the process."""

import asyncio

import redis

from services.api.infra.open_rollouts import OpenRollouts
from services.api.infra.retiring import Retiring
from shared.errors import Conflict
from shared.registry import CurrentRelease, ReleaseWatch
from shared.registry.releases import Releases

__all__ = ["CurrentRelease", "CurrentReleases"]


class CurrentReleases:
    """One release watch for all tenants; reading a release makes no call, refreshing it runs in a thread."""

    def __init__(
        self,
        releases: Releases,
        client: "redis.Redis",
        *,
        retiring: Retiring,
        rollouts: OpenRollouts,
        poll_seconds: float,
    ) -> None:
        self._releases = releases
        self._watch = ReleaseWatch(
            releases,
            client,
            lambda _: None,
            poll_seconds=poll_seconds,
            on_poll=self._on_poll,
            on_hint=rollouts.read,
        )
        self._retiring = retiring
        self._rollouts = rollouts
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Follow the release pointers in the background; Redis may still be down."""
        self._watch.follow()

    async def current(self, tenant_id: str) -> CurrentRelease:
        """Return the current release; raises `Conflict` `no_release` where the tenant has none yet."""
        known = self._watch.current(tenant_id)
        if known is None:
            await self.refresh(tenant_id)
            known = self._watch.current(tenant_id)
        if known is None:
            raise Conflict(
                "no_release",
                "there is no release yet: add or train adapters, train a selector, then promote its release",
            )
        return known

    async def refresh(self, tenant_id: str) -> None:
        """Read the release pointer now; concurrent callers share one read."""
        task = self._refreshing.get(tenant_id)
        if task is None:
            task = self._refreshing[tenant_id] = asyncio.create_task(asyncio.to_thread(self._read_pointer, tenant_id))
            task.add_done_callback(lambda _: self._refreshing.pop(tenant_id))
        await asyncio.shield(task)

    def close(self) -> None:
        """Stop following."""
        self._watch.stop()

    def _on_poll(self) -> None:
        for release in self._watch.releases:
            self._retiring.read(release.tenant_id)
            self._rollouts.read(release.tenant_id)

    def _read_pointer(self, tenant_id: str) -> None:
        self._retiring.read(tenant_id)
        self._rollouts.read(tenant_id)
        is_new = self._watch.current(tenant_id) is None
        if self._watch.refresh(tenant_id) and is_new:
            # The release may be older than the list of tenants: once the tenant is listed, all services follow it.
            self._releases.note_tenant(tenant_id)
