"""Moves the release pointer; this process sees the move at once, other processes by hint or poll."""

import asyncio

from services.api.http.idempotency import Answer
from services.api.infra.clients import Clients
from services.api.jobs.views import release_view
from shared.contracts.manifests import Release
from shared.security.api_keys import Key, Scope


def releases(clients: Clients, tenant_id: str) -> tuple[list[Release], str]:
    """Return all releases and the id of the current one; blocking."""
    return clients.registry.releases.list_all(tenant_id), clients.registry.releases.current_id(tenant_id)


def release(clients: Clients, tenant_id: str, release_id: str) -> tuple[Release, str]:
    """Return one release and the id of the current one; blocking; raises `NotFound`."""
    return clients.registry.releases.get(tenant_id, release_id), clients.registry.releases.current_id(tenant_id)


def check_force(caller: Key, *, force: bool) -> None:
    """Raise `Denied` where a key may not overrule the gate."""
    if force:
        caller.check(Scope.ADMIN)


async def promote(clients: Clients, caller: Key, release_id: str, *, force: bool) -> Answer:
    """Make a candidate current; raises `NotFound`, `Conflict` where gate, parent, adapters or workers forbid it."""
    moved = await asyncio.to_thread(
        clients.registry.releases.promote, caller.tenant_id, release_id, force=force, by=caller.id
    )
    return await _answer(clients, caller, moved)


async def rollback(clients: Clients, caller: Key, to: str, *, force: bool) -> Answer:
    """Return to an older release; raises `NotFound`, `Conflict` where parent, adapters or workers forbid it."""
    moved = await asyncio.to_thread(
        clients.registry.releases.rollback, caller.tenant_id, to=to, force=force, by=caller.id
    )
    return await _answer(clients, caller, moved)


async def _answer(clients: Clients, caller: Key, moved: Release) -> Answer:
    await clients.releases.refresh(caller.tenant_id)
    return Answer(200, release_view(moved, moved.id))
