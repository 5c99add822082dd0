"""The index and the pointer made anew from the object store, for the day on which a ledger is lost for good."""

import json
from typing import Any, NamedTuple

from pydantic import ValidationError
from redis import Redis
from redis.client import Pipeline

from shared.contracts.manifests import AdapterManifest, Release
from shared.ledger.keys import LedgerKey
from shared.registry.records import ADAPTERS, DATASETS, RELEASES, Kind, M, Records
from shared.registry.store import ObjectStore


class Restored(NamedTuple):
    """What came back of one tenant; what the ledger held already counts as nothing."""

    tenant_id: str
    adapters: int
    datasets: int
    releases: int
    current: str
    """The current release after it; empty where there is none."""
    unreadable: list[str]
    """Objects that should be manifests and are not."""


def restore(redis: Redis, store: ObjectStore) -> list[Restored]:
    """Bring back what the store knows of every tenant, and change nothing that the ledger still has or has anew.

    Run again, it goes on where it ended. Jobs, API keys and feedback were only in the ledger. Raises `Unavailable`.
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
    log = _restore_log(store, tenant_id, keys, unreadable)
    if log:
        _restore_pointer(redis, tenant_id, log)
    current = str(redis.get(LedgerKey.RELEASE.of(tenant_id)) or "")
    if current:
        redis.sadd(LedgerKey.TENANTS, tenant_id)
    return Restored(tenant_id, adapters, datasets, releases, current, unreadable)


def _restore_kind(
    redis: Redis, store: ObjectStore, kind: Kind[M], tenant_id: str, keys: list[str], unreadable: list[str]
) -> int:
    """Bring back a tenant's records of one kind, index included; answers how many were missing."""
    records, made = Records(redis, store, kind), 0
    for key, name in _named(keys, f"tenants/{tenant_id}/{kind.name}/"):
        stored = store.get(key)
        try:
            manifest = kind.model.model_validate_json(stored)
        except ValidationError:
            unreadable.append(key)
            continue
        made += records.restore(tenant_id, name, stored, manifest)
        if isinstance(manifest, AdapterManifest):
            _count_version(redis, manifest)
    return made


def _restore_log(store: ObjectStore, tenant_id: str, keys: list[str], unreadable: list[str]) -> list[dict[str, Any]]:
    """Every move of the pointer that the store knows, oldest first."""
    log = []
    for key, name in _named(keys, f"tenants/{tenant_id}/promotions/"):
        try:
            log.append(_move(store.get(key), name))
        except (ValueError, KeyError, TypeError):
            unreadable.append(key)
    return sorted(log, key=lambda move: float(move["at_ms"]))


def _named(keys: list[str], folder: str) -> list[tuple[str, str]]:
    """The manifests of a folder with their names."""
    return [(key, key[len(folder) : -len(".json")]) for key in keys if key.startswith(folder) and key.endswith(".json")]


def _count_version(redis: Redis, manifest: AdapterManifest) -> None:
    """Let the label's next version be a new one; adding is one step, so an upload in between loses no number."""
    key = LedgerKey.VERSIONS.of(manifest.tenant_id)
    behind = manifest.version - int(redis.hget(key, manifest.label) or 0)
    if behind > 0:
        redis.hincrby(key, manifest.label, behind)


def _restore_pointer(redis: Redis, tenant_id: str, log: list[dict[str, Any]]) -> None:
    """Log and pointer, where the ledger has neither: a release that was promoted since then stays."""
    pointer, promotions = LedgerKey.RELEASE.of(tenant_id), LedgerKey.PROMOTIONS.of(tenant_id)
    current = log[-1]["release"]
    raw = redis.hget(LedgerKey.RELEASES.of(tenant_id), current)
    if raw is None:
        return  # its manifest is unreadable, and is named
    queues = Release.model_validate_json(raw).queues

    def move(pipe: Pipeline) -> None:
        if pipe.exists(pointer):
            return
        pipe.multi()
        pipe.delete(promotions)
        pipe.rpush(promotions, *map(json.dumps, log))
        pipe.set(pointer, current)
        pipe.sadd(LedgerKey.QUEUES, *queues)

    redis.transaction(move, pointer)  # anew where somebody promotes meanwhile


def _move(stored: bytes, name: str) -> dict[str, Any]:
    """A move as the ledger logs it; raises where the object is none."""
    move = json.loads(stored)
    at_ms = int(name.split("-", maxsplit=1)[0]) / 1e6  # the name begins with nanoseconds
    return {"release": move["release"], "from": move["from"], "at_ms": at_ms, "by": move["by"]}
