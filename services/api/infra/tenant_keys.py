"""The API keys of a tenant, which the API reads and never writes."""

from typing import Any

from services.api.infra.clients import Clients
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key


async def keys_of(clients: Clients, tenant_id: str) -> list[Key]:
    """Return all keys of a tenant, also those that are revoked or have expired, newest first."""
    redis: Any = clients.ledger.redis  # its reply types cover synchronous clients at once
    keys = map(Key.model_validate_json, await redis.hvals(LedgerKey.API_KEYS))
    return sorted((key for key in keys if key.tenant_id == tenant_id), key=lambda key: key.created_at, reverse=True)
