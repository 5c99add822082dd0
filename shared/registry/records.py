"""A tenant's manifests: in the object store, and as records with an index in Redis, which can be rebuilt from there."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel
from redis import Redis
from redis.client import Pipeline

from shared.contracts.aliases import ModelAlias
from shared.contracts.corpora import CorpusManifest
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.files import StoredFile
from shared.contracts.labels import STORED
from shared.contracts.manifests import AdapterManifest, Release
from shared.contracts.retirements import Retirement
from shared.contracts.templates import PromptTemplate
from shared.ledger.keys import LedgerKey
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt

M = TypeVar("M", bound=BaseModel)
_SEPARATOR = "\t"  # names do not contain it, and it sorts before all their characters
_AFTER = "\n"


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """One kind of manifest, and the fields by which its records are looked up, besides their name."""

    name: str
    model: type[M]
    fields: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    """Fields that order several manifests with the same value, from old to new."""
    digest: str = ""
    """The property that is the record's name, where that is a digest of the manifest's content."""

    def read(self, name: str, stored: str | bytes) -> M:
        """Read a stored manifest; raises `Corrupt` where its content is not what its name says.

        One with members that this version does not know, which a later version wrote, cannot be compared.
        """
        manifest = self.model.model_validate_json(stored)
        is_named = not self.digest or getattr(manifest, self.digest) == name
        if not is_named and not _has_more(json.loads(stored), manifest.model_dump(mode="json", context=STORED)):
            raise Corrupt(self.name[:-1], name)
        return manifest

    def entries(self, record: str, manifest: M) -> list[str]:
        """Return the index entries of a record: field with value, then age, then name; they sort in this order."""
        stored = manifest.model_dump(include={*self.fields, *self.order}, context=STORED)
        age = " ".join(_sortable(stored[field]) for field in self.order)
        return [_SEPARATOR.join((f"{field}:{stored[field]}", age, record)) for field in self.fields]


class _Range(NamedTuple):
    """The first and the last entry of a part of an index, as Redis names them."""

    begin: str
    end: str


def _with_value(field: str, value: str) -> _Range:
    term = f"{field}:{value}"
    return _Range(f"[{term}{_SEPARATOR}", f"({term}{_AFTER}")


def _has_more(stored: Any, known: Any) -> bool:
    """Whether stored JSON has members that the manifest read from it lacks."""
    if not (isinstance(stored, dict) and isinstance(known, dict)):
        return False
    return any(name not in known or _has_more(value, known[name]) for name, value in stored.items())


def _sortable(value: str | int) -> str:
    return f"{value:09}" if isinstance(value, int) else value


ADAPTERS = Kind("adapters", AdapterManifest, fields=("label", "digest"), order=("label", "version"))
DATASETS = Kind("datasets", DatasetManifest, fields=("id", "name"), order=("created_at",))
CORPORA = Kind("corpora", CorpusManifest, fields=("id", "name"), order=("created_at",))
RELEASES = Kind("releases", Release, digest="id")
TEMPLATES = Kind("templates", PromptTemplate)
ALIASES = Kind("aliases", ModelAlias)
FILES = Kind("files", StoredFile)
RETIREMENTS = Kind("retirements", Retirement)


class Records(Generic[M]):
    """The manifests of one kind, most written once and never changed; finding one does not read the others.

    A hash of the ledger holds them by name; a sorted set (`LedgerKey.INDEX`) holds an entry for each field by which
    they are looked up. Where their numbers disagree (an old ledger, or an old process that wrote no entries), the
    index is rebuilt from the records.
    """

    def __init__(self, redis: Redis, store: ObjectStore, kind: Kind[M]) -> None:
        self._redis = redis
        self._store = store
        self._kind = kind

    def add(self, tenant_id: str, name: str, manifest: M) -> None:
        """Store a manifest, first in the object store, because the ledger is restored from it."""
        with self._redis.pipeline(transaction=True) as pipe:
            self._write(pipe, tenant_id, name, manifest)
            pipe.execute()

    def settle(self, tenant_id: str, make: Callable[[], tuple[str, M]]) -> M:
        """Store, under its name, the manifest that `make` builds on others of the tenant; returns it.

        `make` is called again where one of them was stored or removed meanwhile, so that nothing is lost.
        """
        made: list[M] = []

        def settled(pipe: Pipeline) -> None:
            name, manifest = make()
            made.append(manifest)
            pipe.multi()
            self._write(pipe, tenant_id, name, manifest)

        self._redis.transaction(settled, self._records(tenant_id))
        return made[-1]

    def _write(self, pipe: Pipeline, tenant_id: str, name: str, manifest: M) -> None:
        stored = manifest.model_dump_json(context=STORED)
        self._store.put(self._key(tenant_id, name), stored.encode())
        pipe.hset(self._records(tenant_id), name, stored)
        self._add_entries(pipe, tenant_id, self._kind.entries(name, manifest))

    def restore(self, tenant_id: str, name: str, stored: bytes, manifest: M) -> bool:
        """Restore a record from stored bytes, which may be of a later version; returns whether it was missing."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(self._records(tenant_id), name, stored)
            self._add_entries(pipe, tenant_id, self._kind.entries(name, manifest))
            return bool(pipe.execute()[0])

    def remove(self, tenant_id: str, name: str, manifest: M) -> None:
        """Remove a manifest, first from the object store, from which it would come back."""
        self.remove_stored(tenant_id, name)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(self._records(tenant_id), name)
            if entries := self._kind.entries(name, manifest):
                pipe.zrem(self._index(tenant_id), *entries)
            pipe.execute()

    def remove_stored(self, tenant_id: str, name: str) -> None:
        """Remove a manifest from the object store alone."""
        self._store.delete(self._key(tenant_id, name))

    def get(self, tenant_id: str, name: str) -> M | None:
        """Return the manifest of this name, or None."""
        raw = self._redis.hget(self._records(tenant_id), name)
        return None if raw is None else self._kind.read(name, raw)

    def newest(self, tenant_id: str, field: str, value: str) -> M | None:
        """Return the newest manifest whose `field` has this value, or None."""
        names = self._names(tenant_id, _with_value(field, value), limit=1)
        found = self.get(tenant_id, names[0]) if names else None
        is_it = found and found.model_dump(include={field}, context=STORED)[field] == value
        return found if is_it else None

    def matching(self, tenant_id: str, field: str, value: str) -> list[M]:
        """Return all manifests whose `field` has this value, oldest first."""
        return self.of(tenant_id, self._names(tenant_id, _with_value(field, value))[::-1])

    def names(self, tenant_id: str, field: str) -> list[str]:
        """Return the names of all records, ordered by a field."""
        return self._names(tenant_id, _Range(f"[{field}:", f"({field};"))[::-1]

    def of(self, tenant_id: str, names: Sequence[str]) -> list[M]:
        """Return the manifests of these names, as far as there are any."""
        found = self._redis.hmget(self._records(tenant_id), names) if names else []
        return [self._kind.model.model_validate_json(raw) for raw in found if raw is not None]

    def list_all(self, tenant_id: str) -> list[M]:
        """Return all manifests, in no particular order."""
        return [self._kind.model.model_validate_json(raw) for raw in self._redis.hvals(self._records(tenant_id))]

    def _names(self, tenant_id: str, entries: _Range, limit: int = -1) -> list[str]:
        is_complete, names = self._look_up(tenant_id, entries, limit)
        if not is_complete:
            self._rebuild(tenant_id)
            _, names = self._look_up(tenant_id, entries, limit)
        return names

    def _look_up(self, tenant_id: str, wanted: _Range, limit: int) -> tuple[bool, list[str]]:
        """Return whether the index is complete, and the names of the records with these entries, the last one first."""
        index = self._index(tenant_id)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(self._records(tenant_id))
            pipe.zcard(index)
            pipe.zrevrangebylex(index, wanted.end, wanted.begin, start=0, num=limit)
            records, entries, found = pipe.execute()
        return entries == records * len(self._kind.fields), [entry.rpartition(_SEPARATOR)[2] for entry in found]

    def _rebuild(self, tenant_id: str) -> None:
        """Rebuild the index; it may miss a record that is added meanwhile, which the next look-up notices."""
        stored = self._redis.hgetall(self._records(tenant_id))
        known = {str(name): self._kind.model.model_validate_json(raw) for name, raw in stored.items()}
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._index(tenant_id))
            self._add_entries(pipe, tenant_id, (e for name, m in known.items() for e in self._kind.entries(name, m)))
            pipe.execute()

    def _add_entries(self, pipe: Pipeline, tenant_id: str, entries: Iterable[str]) -> None:
        scores = dict.fromkeys(entries, 0)  # equal scores, so that entries sort by their text
        if scores:
            pipe.zadd(self._index(tenant_id), scores)

    def _key(self, tenant_id: str, name: str) -> str:
        return f"tenants/{tenant_id}/{self._kind.name}/{name}.json"

    def _records(self, tenant_id: str) -> str:
        return LedgerKey[self._kind.name.upper()].of(tenant_id)

    def _index(self, tenant_id: str) -> str:
        return LedgerKey.INDEX.of(self._kind.name, tenant_id)
