"""The models that a client may name."""

from datetime import datetime
from typing import Any

from services.api.infra.base_models import served_bases
from services.api.infra.clients import Clients
from shared.contracts.manifests import Release
from shared.errors import Conflict


async def models(clients: Clients, tenant_id: str) -> list[dict[str, Any]]:
    """Return the base model, `auto` and the labels of the current release; without one, the base models served now."""
    try:
        release: Release | None = (await clients.releases.current(tenant_id)).release
    except Conflict:
        release = None
    bases = [release.base_model] if release else await served_bases(clients)
    created = int(datetime.fromisoformat(release.created_at).timestamp()) if release else 0
    names = bases + (["auto", *sorted(release.labels)] if release else [])
    return [{"id": name, "object": "model", "created": created, "owned_by": "signalbox"} for name in names]
