"""Retires adapters: a date from which on they may not be named."""

import asyncio
from datetime import UTC, datetime

from services.api.infra.clients import Clients
from shared.contracts.manifests import AdapterManifest, Release
from shared.contracts.retirements import Retirement
from shared.errors import Conflict
from shared.security.api_keys import Key


async def date_of(clients: Clients, manifest: AdapterManifest) -> Retirement | None:
    """Return a version's retirement as the registry has it."""
    found = await asyncio.to_thread(clients.registry.retirements.of, manifest.tenant_id, [manifest.ref])
    return found.get(manifest.ref)


async def retire(clients: Clients, caller: Key, manifest: AdapterManifest, at: datetime | None) -> Retirement | None:
    """Set the date, or take it back where it is None; returns the retirement.

    Raises `Conflict` `adapter_routed` where the date is not in the future and the current release's selector chooses
    the adapter: callers would be told that it is gone, while it goes on answering.
    """
    if at is None:
        retirement = None
        await asyncio.to_thread(clients.registry.retirements.take_back, manifest.tenant_id, manifest.ref)
    else:
        retirement = Retirement(tenant_id=manifest.tenant_id, ref=manifest.ref, at=at.astimezone(UTC), key=caller.id)
        if retirement.is_over:
            await _check_not_routed(clients, manifest)
        await asyncio.to_thread(clients.registry.retirements.set, retirement)
    await asyncio.to_thread(clients.retiring.read, manifest.tenant_id)
    return retirement


async def _check_not_routed(clients: Clients, manifest: AdapterManifest) -> None:
    try:
        release = (await clients.releases.current(manifest.tenant_id)).release
    except Conflict:
        return
    if label := _routed_label(release, manifest.ref):
        raise Conflict(
            "adapter_routed",
            f"the selector of the current release chooses {manifest.ref} for {label}: promote a release without it "
            f"first (`signalbox releases edit --remove {label} --promote`), or name a date in the future",
        )


def _routed_label(release: Release, ref: str) -> str:
    return next((label for label in release.selected_labels if release.labels[label].ref == ref), "")
