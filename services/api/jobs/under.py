"""Which release a job runs under: the current one, or where its request says so the one before it.

Workers hold the adapters of these two, and no others' (docs/architecture.md).
"""

import asyncio

from services.api.infra.base_models import served_bases
from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from shared.errors import Conflict


async def named_release(clients: Clients, tenant_id: str, release_id: str | None) -> CurrentRelease | None:
    """Return the release that a request names; None where it is the current one, or none is named.

    Raises `NotFound`, and `Conflict` `release_not_served` where no live worker has its base model.
    """
    current = await clients.releases.current(tenant_id)
    if release_id in (None, current.id):
        return None
    found = await asyncio.to_thread(clients.registry.releases.get, tenant_id, release_id)
    if found.base_model not in await served_bases(clients):
        raise Conflict(
            "release_not_served",
            f"no live worker serves base model {found.base_model}, which release {found.id} is made for: start one",
        )
    return CurrentRelease(found.id, found)


def under(current: CurrentRelease, named: CurrentRelease | None) -> CurrentRelease:
    """Return the release that a job runs under; raises `Conflict` where workers do not hold the named one."""
    if named is None or named.id == current.id:
        return current
    if named.id != current.release.parent:
        before = f" and {current.release.parent}, which it came from" if current.release.parent else ""
        raise Conflict(
            "release_not_served",
            f"workers hold the current release, {current.id}{before}: promote {named.id}, or roll back to it, first",
        )
    return named
