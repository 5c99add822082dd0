"""API keys: 256 random bits that are shown once; the ledger holds only their SHA-256, a tenant and scopes."""

import hashlib
import hmac
import secrets
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import Denied, NotFound
from shared.labels import check_name
from shared.names import DEFAULT_TENANT
from shared.registry.manifests import utc_now

KEYS_HASH = "sb:keys"
_PREFIX = "sbk_"


class Scope(StrEnum):
    """What a key may do; `admin` may do everything."""

    SUBMIT = "submit"
    TRAIN = "train"
    ADMIN = "admin"


class Key(BaseModel):
    """What is stored of a key: never the key itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    """Derived from the key's hash, so that one lookup finds it."""
    sha256: str
    tenant_id: str
    name: str = Field(max_length=64)
    scopes: frozenset[Scope]
    created_at: str = Field(default_factory=utc_now)
    revoked_at: str = ""

    def may(self, scope: Scope) -> bool:
        """Whether the key has this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Unauthenticated(Denied):
    """There is no key, or none that is known."""

    status = 401


def key_id(token: str) -> str:
    """Where the record of this key is found."""
    return f"key_{_sha256(token)[:16]}"


def create(
    client: Any, scopes: frozenset[Scope], *, tenant_id: str = DEFAULT_TENANT, name: str = ""
) -> tuple[Key, str]:
    """Make a key and store its hash; answers the record, and the key, which is shown this once."""
    token = _PREFIX + secrets.token_urlsafe(32)
    key = Key(
        id=key_id(token),
        sha256=_sha256(token),
        tenant_id=check_name(tenant_id, "tenant"),
        name=name,
        scopes=scopes,
    )
    client.hset(KEYS_HASH, key.id, key.model_dump_json())
    return key, token


def list_all(client: Any) -> list[Key]:
    """Every key, revoked ones too, oldest first."""
    return sorted(map(Key.model_validate_json, client.hvals(KEYS_HASH)), key=lambda key: key.created_at)


def revoke(client: Any, wanted_id: str) -> Key:
    """Revoke a key; API processes forget it within `auth.REMEMBER_SECONDS`; raises `NotFound`."""
    raw = client.hget(KEYS_HASH, wanted_id)
    if raw is None:
        raise NotFound("key_not_found", f"no key {wanted_id!r}; `signalbox keys list` shows them")
    key = Key.model_validate_json(raw)
    key = key.model_copy(update={"revoked_at": key.revoked_at or utc_now()})
    client.hset(KEYS_HASH, key.id, key.model_dump_json())
    return key


def authenticate(client: Any, token: str) -> Key:
    """The record of a valid key; raises `Unauthenticated`."""
    return check(client.hget(KEYS_HASH, key_id(token)), token)


def check(raw: str | bytes | None, token: str) -> Key:
    """Compare a stored record with the key that was sent, in constant time; raises `Unauthenticated`."""
    if raw is not None:
        key = Key.model_validate_json(raw)
        if hmac.compare_digest(key.sha256, _sha256(token)) and not key.revoked_at:
            return key
    raise Unauthenticated("key_unknown", "this API key is unknown or revoked; `signalbox keys create` makes a new one")


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
