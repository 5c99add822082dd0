"""Retries calls to the object store for a limited time, while the job's lease is live."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import structlog

from shared.errors import Unavailable
from shared.registry.store import ObjectStore, StoredObject
from shared.worker.leases import HeldJob

log = structlog.get_logger()
T = TypeVar("T")
PAUSE_SECONDS = 1.0


def retry_unavailable(call: Callable[[], T], lease: HeldJob, seconds: float) -> T:
    """Repeat `call` until it succeeds; raises `Unavailable` after `seconds`, `Cancelled` when the job has to stop."""
    until = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Unavailable as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            log.warning("waiting_for_store", code=error.code, error=error.detail)
        lease.wait(min(PAUSE_SECONDS, left))


class RetryingStore:
    """An object store that retries every call, on behalf of one job."""

    def __init__(self, store: ObjectStore, lease: HeldJob, seconds: float) -> None:
        self._store = store
        self._lease = lease
        self._seconds = seconds

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`."""
        self._wait(lambda: self._store.put(key, data))

    def put_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        self._wait(lambda: self._store.put_file(key, path))

    def get(self, key: str) -> bytes:
        """See `ObjectStore`."""
        return self._wait(lambda: self._store.get(key))

    def get_file(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        self._wait(lambda: self._store.get_file(key, path))

    def pieces(self, key: str) -> Iterator[bytes]:
        """See `ObjectStore`; read whole, so that it can be read again."""
        yield self.get(key)

    def copy(self, source: str, target: str) -> None:
        """See `ObjectStore`."""
        self._wait(lambda: self._store.copy(source, target))

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        return self._wait(lambda: self._store.exists(key))

    def keys(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        return self._wait(lambda: self._store.keys(prefix))

    def objects(self, prefix: str) -> list[StoredObject]:
        """See `ObjectStore`."""
        return self._wait(lambda: self._store.objects(prefix))

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        self._wait(lambda: self._store.delete(key))

    def _wait(self, call: Callable[[], T]) -> T:
        return retry_unavailable(call, self._lease, self._seconds)
