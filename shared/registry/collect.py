"""Garbage: objects that no record, release or unfinished job names, and that nobody wrote lately.

Contents are written before what names them, so an object is left alone until it is older than the longest time between
the two: a grace. What the store's own manifests name counts as named too: after the loss of a ledger nothing is garbage
that `releases restore` would bring back.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime

from shared.contracts.jobs import Job
from shared.errors import NotFound
from shared.ledger.keys import LedgerKey
from shared.registry.contents import NAMES, name_in
from shared.registry.registry import Registry
from shared.registry.store import ObjectStore, StoredObject

_RECORDS = (LedgerKey.ADAPTERS, LedgerKey.DATASETS, LedgerKey.CORPORA, LedgerKey.RELEASES)
_CHECKPOINTS = "checkpoints/"


def garbage(registry: Registry, older_than: datetime) -> list[StoredObject]:
    """List what nothing names and nobody has written since; raises `Unavailable`."""
    old = [one for one in registry.store.objects("") if one.modified_at < older_than]  # before what names them is read
    trainings = _trainings(registry)
    named = {job.id for job in trainings} | set(_names(registry, trainings))
    return [one for one in old if (name := _name(one.key)) and name not in named]


def collect(store: ObjectStore, found: Iterable[StoredObject]) -> Iterator[StoredObject]:
    """Delete garbage, and yield each object that is gone; one that somebody wrote since it was listed stays."""
    for one in found:
        if one in store.objects(one.key):
            store.delete(one.key)
            yield one


def _name(key: str) -> str:
    """Return what others name this object by: for a checkpoint its job; empty for what is never garbage."""
    return key.split("/")[1] if key.startswith(_CHECKPOINTS) else name_in(key)


def _trainings(registry: Registry) -> list[Job]:
    tenants = {str(key).removeprefix(LedgerKey.JOBS) for key in registry.ledger.redis.scan_iter(LedgerKey.JOBS.pattern)}
    return [job for tenant_id in sorted(tenants) for job in registry.removal.in_use(tenant_id).trainings]


def _names(registry: Registry, trainings: list[Job]) -> Iterator[str]:
    """Yield every digest and id that stands in a record, a manifest, a training, or a result that it has stored."""
    redis, store = registry.ledger.redis, registry.store
    for kind in _RECORDS:
        for key in redis.scan_iter(kind.pattern):
            for _, stored in redis.hscan_iter(key):
                yield from NAMES.findall(str(stored))
    for job in trainings:
        yield from NAMES.findall(job.model_dump_json(include={"body"}))
    for prefix in ("tenants/", *(f"{_CHECKPOINTS}{job.id}/" for job in trainings)):
        for key in store.keys(prefix):
            if key.endswith(".json"):
                with contextlib.suppress(NotFound):  # deleted since it was listed
                    yield from NAMES.findall(store.get(key).decode(errors="replace"))
