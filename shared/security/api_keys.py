"""API keys: 256 random bits that are shown once; the ledger holds only their SHA-256, a tenant, scopes and limits."""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.labels import check_name
from shared.contracts.times import utc_now
from shared.errors import Conflict, Denied, NotFound
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT

_PREFIX = "sbk_"


PerMinute = Annotated[int, Field(ge=0, le=1_000_000_000)]
"""A limit; 0 means none."""


class Scope(StrEnum):
    """The permissions of a key; `admin` includes all others. SECURITY.md says what each may do."""

    SUBMIT = "submit"
    READ = "read"
    REVIEW = "review"
    TRAIN = "train"
    PROMOTE = "promote"
    ADMIN = "admin"


class Key(BaseModel):
    """The stored record of a key, which does not contain the key itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    """Derived from the key's hash, so that one lookup finds it."""
    sha256: str
    tenant_id: str
    name: str = Field(max_length=64)
    scopes: frozenset[Scope]
    created_at: str = Field(default_factory=utc_now)
    revoked_at: str = ""
    expires_at: str = ""
    """ISO 8601; empty means never."""
    requests_per_minute: PerMinute | None = None
    """None means the default of the settings."""
    tokens_per_minute: PerMinute | None = None
    """Tokens of prompts and requested answers together."""
    replaces: str = ""
    """The id of the key that this one replaces."""
    line: str = ""
    """The id of the first key of a row of rotations: the keys of a line own the same jobs."""

    @model_validator(mode="before")
    @classmethod
    def _keeps_what_it_had(cls, record: dict[str, Any]) -> dict[str, Any]:
        """A record without a line is older than `read` and `review`, which `submit` included then."""
        if record.get("line"):
            return record
        had = {Scope(scope) for scope in record["scopes"]}
        included = {Scope.READ, Scope.REVIEW} if Scope.SUBMIT in had else set()
        return record | {"line": record["id"], "scopes": had | included}

    @property
    def seconds_left(self) -> float:
        """Seconds until the key expires; infinite if it never does."""
        if not self.expires_at:
            return float("inf")
        return (datetime.fromisoformat(self.expires_at) - datetime.now(UTC)).total_seconds()

    def may(self, scope: Scope) -> bool:
        """Whether the key has this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def signature(self) -> dict[str, str]:
        """What a job notes of the key that submitted it."""
        return {"tenant_id": self.tenant_id, "key": self.id, "key_line": self.line}

    def check(self, *scopes: Scope) -> None:
        """Raise `Denied` unless the key has one of these scopes."""
        if not any(map(self.may, scopes)):
            wanted = " or ".join(repr(scope.value) for scope in scopes)
            raise Denied("scope_missing", f"this API key lacks the scope {wanted}; use one that has it")

    @property
    def sees(self) -> str:
        """The line whose jobs this key reads, empty for all of the tenant's jobs."""
        return "" if self.may(Scope.READ) else self.line


class Unauthenticated(Denied):
    """The request has no key, or an unknown one."""

    status = 401


def key_id(token: str) -> str:
    """Return the id under which the key's record is stored."""
    return f"key_{_sha256(token)[:16]}"


def create(
    client: Any,
    scopes: frozenset[Scope],
    *,
    tenant_id: str = DEFAULT_TENANT,
    name: str = "",
    lifetime: timedelta | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[Key, str]:
    """Create a key and store its hash; returns the record, and the key, which cannot be read again."""
    return _store_new(
        client,
        tenant_id=check_name(tenant_id, "tenant"),
        name=name,
        scopes=scopes,
        expires_at=_after(lifetime) if lifetime else "",
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )


def rotate(client: Any, old_id: str, overlap: timedelta) -> tuple[Key, str]:
    """Create a key with the same scopes, limits and expiry; the old key becomes invalid after `overlap`.

    Raises `NotFound`, and `Conflict` where the old one is revoked or has expired.
    """
    old = _find(client, old_id)
    if old.revoked_at or old.seconds_left <= 0:
        raise Conflict("key_ended", f"key {old_id!r} is revoked or has expired; make a new one: signalbox keys create")
    lifetime = (
        datetime.fromisoformat(old.expires_at) - datetime.fromisoformat(old.created_at) if old.expires_at else None
    )
    kept = old.model_dump(include={"tenant_id", "name", "scopes", "requests_per_minute", "tokens_per_minute", "line"})
    new = _store_new(client, **kept, expires_at=_after(lifetime) if lifetime else "", replaces=old.id)
    if overlap.total_seconds() < old.seconds_left:
        _write(client, old.model_copy(update={"expires_at": _after(overlap)}))
    return new


def list_all(client: Any) -> list[Key]:
    """List all keys, also revoked ones, oldest first."""
    return sorted(map(Key.model_validate_json, client.hvals(LedgerKey.API_KEYS)), key=lambda key: key.created_at)


def revoke(client: Any, wanted_id: str) -> Key:
    """Revoke a key; API processes may accept it for `auth.REMEMBER_SECONDS` more; raises `NotFound`."""
    key = _find(client, wanted_id)
    key = key.model_copy(update={"revoked_at": key.revoked_at or utc_now()})
    _write(client, key)
    return key


def authenticate(client: Any, token: str) -> Key:
    """Return the record of a valid key; raises `Unauthenticated`."""
    return check(client.hget(LedgerKey.API_KEYS, key_id(token)), token)


def check(raw: str | bytes | None, token: str) -> Key:
    """Compare a stored record with the sent key, in constant time; raises `Unauthenticated`."""
    key = usable(raw)
    if not hmac.compare_digest(key.sha256, _sha256(token)):
        raise _unknown()
    return key


def usable(raw: str | bytes | None) -> Key:
    """Return a stored record whose key is neither revoked nor expired; raises `Unauthenticated`."""
    key = Key.model_validate_json(raw) if raw is not None else None
    if key is None or key.revoked_at:
        raise _unknown()
    if key.seconds_left <= 0:
        raise Unauthenticated("key_expired", "this API key has expired; ask an operator for a new one")
    return key


def _unknown() -> Unauthenticated:
    return Unauthenticated("key_unknown", "this API key is unknown or revoked; `signalbox keys create` makes a new one")


def _store_new(client: Any, **fields: Any) -> tuple[Key, str]:
    token = _PREFIX + secrets.token_urlsafe(32)
    key = Key(id=key_id(token), sha256=_sha256(token), **{"line": key_id(token), **fields})
    _write(client, key)
    return key, token


def _find(client: Any, wanted_id: str) -> Key:
    raw = client.hget(LedgerKey.API_KEYS, wanted_id)
    if raw is None:
        raise NotFound("key_not_found", f"no key {wanted_id!r}; `signalbox keys list` shows them")
    return Key.model_validate_json(raw)


def _write(client: Any, key: Key) -> None:
    client.hset(LedgerKey.API_KEYS, key.id, key.model_dump_json())


def _after(time: timedelta) -> str:
    return (datetime.now(UTC) + time).isoformat(timespec="microseconds")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
