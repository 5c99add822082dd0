"""Ids of callers' users, as what is kept of them: a keyed hash, by which their jobs can be found and forgotten."""

import hashlib
import hmac
import secrets
from typing import TypeVar

from services.api.jobs.schemas import Conversation
from shared.ledger import AsyncLedger
from shared.ledger.keys import LedgerKey
from shared.settings import Settings

C = TypeVar("C", bound=Conversation)
_DIGITS = 32


class UserIds:
    """Hashes ids (HMAC-SHA256) by the key of the settings, else by one that the ledger makes once and keeps."""

    def __init__(self, ledger: AsyncLedger, settings: Settings) -> None:
        self._redis = ledger.redis
        self._key = settings.user_key.get_secret_value()

    async def hidden(self, tenant_id: str, user: str) -> str:
        """Return what is kept in place of a user's id; the same id of another tenant is somebody else."""
        self._key = self._key or await self._kept_key()
        digest = hmac.new(self._key.encode(), f"{tenant_id}\0{user}".encode(), hashlib.sha256).hexdigest()
        return f"usr_{digest[:_DIGITS]}"

    async def without_id(self, tenant_id: str, request: C) -> C:
        """Return a request that has its user's hash in place of the id."""
        if request.user is None:
            return request
        return request.model_copy(update={"user": await self.hidden(tenant_id, request.user)})

    async def _kept_key(self) -> str:
        await self._redis.set(LedgerKey.USER_KEY, secrets.token_hex(32), nx=True)
        return str(await self._redis.get(LedgerKey.USER_KEY))
