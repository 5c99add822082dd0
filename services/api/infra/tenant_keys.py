"""The API keys of a tenant, which the API reads and never writes."""

from typing import Any

from services.api.infra.clients import Clients
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key


async def acting_key(clients: Clients, tenant_id: str, key_id: str) -> Key | None:
    """Return the newest usable key of the line of this one, with whose rights something is carried out later."""
    keys = await keys_of(clients, tenant_id)
    line = next((key.line for key in keys if key.id == key_id), None)
    return next((key for key in keys if key.line == line and not key.revoked_at and key.seconds_left > 0), None)


async def keys_of(clients: Clients, tenant_id: str) -> list[Key]:
    """Return all keys of a tenant, also those that are revoked or have expired, newest first."""
    redis: Any = clients.ledger.redis  # its reply types cover synchronous clients at once
    keys = map(Key.model_validate_json, await redis.hvals(LedgerKey.API_KEYS))
    return sorted((key for key in keys if key.tenant_id == tenant_id), key=lambda key: key.created_at, reverse=True)
