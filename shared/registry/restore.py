"""The index and the pointer made anew from the object store, for the day on which a ledger is lost for good."""

import json
from typing import Any, NamedTuple

from pydantic import ValidationError
from redis import Redis

from shared.registry.manifests import AdapterManifest, DatasetManifest, Release
from shared.store import ObjectStore

_MANIFESTS: dict[str, type[AdapterManifest | DatasetManifest | Release]] = {
    "adapters": AdapterManifest,
    "datasets": DatasetManifest,
    "releases": Release,
}


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

    Run again, it goes on where it ended. Jobs, API keys and feedback were in the ledger alone. Raises `Unavailable`.
    """
    found: dict[str, list[str]] = {}
    for key in store.keys("tenants/"):
        found.setdefault(key.split("/")[1], []).append(key)
    return [_restore_tenant(redis, store, tenant_id, keys) for tenant_id, keys in sorted(found.items())]


def _restore_tenant(redis: Redis, store: ObjectStore, tenant_id: str, keys: list[str]) -> Restored:
    made: dict[str, int] = {}
    unreadable = []
    for kind, model in _MANIFESTS.items():
        made[kind] = 0
        for key, name in _named(keys, f"tenants/{tenant_id}/{kind}/"):
            try:
                manifest = model.model_validate_json(store.get(key))
            except ValidationError:
                unreadable.append(key)
                continue
            made[kind] += redis.hsetnx(f"sb:{kind}:{tenant_id}", name, manifest.model_dump_json())
            if isinstance(manifest, AdapterManifest):
                _count_version(redis, manifest)
    _restore_pointer(redis, store, tenant_id, _named(keys, f"tenants/{tenant_id}/promotions/"))
    current = str(redis.get(f"sb:release:{tenant_id}") or "")
    return Restored(tenant_id, made["adapters"], made["datasets"], made["releases"], current, unreadable)


def _named(keys: list[str], folder: str) -> list[tuple[str, str]]:
    """The manifests of a folder with their names."""
    return [(key, key[len(folder) : -len(".json")]) for key in keys if key.startswith(folder) and key.endswith(".json")]


def _count_version(redis: Redis, manifest: AdapterManifest) -> None:
    """Let the label's next version be a new one; adding is one step, so an upload in between loses no number."""
    key = f"sb:versions:{manifest.tenant_id}"
    behind = manifest.version - int(redis.hget(key, manifest.label) or 0)
    if behind > 0:
        redis.hincrby(key, manifest.label, behind)


def _restore_pointer(redis: Redis, store: ObjectStore, tenant_id: str, moves: list[tuple[str, str]]) -> None:
    """Log and pointer, where the ledger has neither: a release that was promoted since then stays."""
    log = [_move(store.get(key), name) for key, name in sorted(moves, key=lambda move: _nanoseconds(move[1]))]
    if not log or redis.exists(f"sb:release:{tenant_id}"):
        return
    raw = redis.hget(f"sb:releases:{tenant_id}", log[-1]["release"])
    if raw is None:
        return  # its manifest is unreadable, and is named
    pipe = redis.pipeline()
    pipe.delete(f"sb:promotions:{tenant_id}")
    pipe.rpush(f"sb:promotions:{tenant_id}", *map(json.dumps, log))
    pipe.set(f"sb:release:{tenant_id}", log[-1]["release"])
    pipe.sadd("sb:queues", *Release.model_validate_json(raw).queues)
    pipe.execute()


def _nanoseconds(name: str) -> int:
    return int(name.split("-", maxsplit=1)[0])


def _move(stored: bytes, name: str) -> dict[str, Any]:
    return dict(json.loads(stored)) | {"at_ms": _nanoseconds(name) // 1_000_000}
