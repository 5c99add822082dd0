"""Restores the registry's records and release pointers from the object store, after the loss of a ledger."""

import json
from typing import Any, NamedTuple

from pydantic import ValidationError
from redis import Redis
from redis.client import Pipeline

from shared.contracts.labels import full_form
from shared.contracts.manifests import AdapterManifest, Release
from shared.ledger.keys import LedgerKey
from shared.registry.records import (
    ADAPTERS,
    ALIASES,
    CORPORA,
    DATASETS,
    FILES,
    RELEASES,
    RETIREMENTS,
    TEMPLATES,
    Kind,
    M,
    Records,
)
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt


class Restored(NamedTuple):
    """The numbers of restored records of one tenant, without records that the ledger had already."""

    tenant_id: str
    adapters: int
    datasets: int
    releases: int
    current: str
    """The current release after the restore; empty where there is none."""
    unreadable: list[str]
    """Keys of objects that are no valid manifests, or not those that their names say."""
    templates: int = 0
    aliases: int = 0
    files: int = 0
    retirements: int = 0
    corpora: int = 0


def restore(redis: Redis, store: ObjectStore) -> list[Restored]:
    """Restore every tenant's records from the store; records that are in the ledger stay unchanged.

    A repeated call continues an interrupted one. Jobs, API keys and feedback cannot be restored: they are only in the
    ledger. Raises `Unavailable`.
    """
    found: dict[str, list[str]] = {}
    for key in store.keys("tenants/"):
        found.setdefault(key.split("/")[1], []).append(key)
    return [_restore_tenant(redis, store, tenant_id, keys) for tenant_id, keys in sorted(found.items())]


def _restore_tenant(redis: Redis, store: ObjectStore, tenant_id: str, keys: list[str]) -> Restored:
    unreadable: list[str] = []
    adapters = _restore_kind(redis, store, ADAPTERS, tenant_id, keys, unreadable)
    datasets = _restore_kind(redis, store, DATASETS, tenant_id, keys, unreadable)
    releases = _restore_kind(redis, store, RELEASES, tenant_id, keys, unreadable)
    templates = _restore_kind(redis, store, TEMPLATES, tenant_id, keys, unreadable)
    aliases = _restore_kind(redis, store, ALIASES, tenant_id, keys, unreadable)
    files = _restore_kind(redis, store, FILES, tenant_id, keys, unreadable)
    retirements = _restore_kind(redis, store, RETIREMENTS, tenant_id, keys, unreadable)
    corpora = _restore_kind(redis, store, CORPORA, tenant_id, keys, unreadable)
    log = _restore_log(store, tenant_id, keys, unreadable)
    if log:
        _restore_pointer(redis, tenant_id, log)
    current = str(redis.get(LedgerKey.RELEASE.of(tenant_id)) or "")
    if current:
        redis.sadd(LedgerKey.TENANTS, tenant_id)
    return Restored(
        tenant_id, adapters, datasets, releases, current, unreadable, templates, aliases, files, retirements, corpora
    )


def _restore_kind(
    redis: Redis, store: ObjectStore, kind: Kind[M], tenant_id: str, keys: list[str], unreadable: list[str]
) -> int:
    """Restore a tenant's records of one kind with their index entries; returns how many were missing."""
    records, made = Records(redis, store, kind), 0
    for key, name in _named(keys, f"tenants/{tenant_id}/{kind.name}/"):
        stored = store.get(key)
        try:
            manifest = kind.read(name, stored)
        except (ValidationError, Corrupt):
            unreadable.append(key)
            continue
        made += records.restore(tenant_id, name, stored, manifest)
        if isinstance(manifest, AdapterManifest):
            _count_version(redis, manifest)
    return made


def _restore_log(store: ObjectStore, tenant_id: str, keys: list[str], unreadable: list[str]) -> list[dict[str, Any]]:
    """Return the moves of the pointer that the store holds, oldest first."""
    log = []
    for key, name in _named(keys, f"tenants/{tenant_id}/promotions/"):
        try:
            log.append(_move(store.get(key), name))
        except (ValueError, KeyError, TypeError):
            unreadable.append(key)
    return sorted(log, key=lambda move: float(move["at_ms"]))


def _named(keys: list[str], folder: str) -> list[tuple[str, str]]:
    """Return the keys of a folder's manifests with the manifests' names."""
    return [(key, key[len(folder) : -len(".json")]) for key in keys if key.startswith(folder) and key.endswith(".json")]


def _count_version(redis: Redis, manifest: AdapterManifest) -> None:
    """Raise the label's version counter to this version; the increment is atomic, so concurrent uploads keep theirs."""
    key = LedgerKey.VERSIONS.of(manifest.tenant_id)
    label = full_form(manifest.label)
    missing = manifest.version - int(redis.hget(key, label) or 0)
    if missing > 0:
        redis.hincrby(key, label, missing)


def _restore_pointer(redis: Redis, tenant_id: str, log: list[dict[str, Any]]) -> None:
    """Restore log and pointer, unless the ledger has a pointer: a release promoted since the loss stays current."""
    pointer, promotions = LedgerKey.RELEASE.of(tenant_id), LedgerKey.PROMOTIONS.of(tenant_id)
    current = log[-1]["release"]
    raw = redis.hget(LedgerKey.RELEASES.of(tenant_id), current)
    if raw is None:
        return  # its manifest is unreadable; the caller reports it
    queues = Release.model_validate_json(raw).queues

    def move(pipe: Pipeline) -> None:
        if pipe.exists(pointer):
            return
        pipe.multi()
        pipe.delete(promotions)
        pipe.rpush(promotions, *map(json.dumps, log))
        pipe.set(pointer, current)
        pipe.sadd(LedgerKey.QUEUES, *queues)

    redis.transaction(move, pointer)  # repeats if a promotion happens meanwhile


def _move(stored: bytes, name: str) -> dict[str, Any]:
    """Return a move in the form of the ledger's log; raises `ValueError`, `KeyError`, `TypeError` for other objects."""
    move = json.loads(stored)
    at_ms = int(name.split("-", maxsplit=1)[0]) / 1e6  # the name begins with nanoseconds
    return {
        "release": move["release"],
        "from": move["from"],
        "at_ms": at_ms,
        "by": move["by"],
        "key": move.get("key", ""),
    }
