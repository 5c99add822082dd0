"""Adapters that no job has asked for yet, fetched to the disk while the worker has nothing else to do."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from shared.errors import SignalboxError

log = structlog.get_logger()
_PAUSE_SECONDS = 0.05


class Prefetcher:
    """One thread that fetches what is wanted, one adapter at a time, until the disk cache is full.

    A job whose adapter has no slot then waits for the disk instead of the object store.
    """

    def __init__(
        self, fetch: Callable[[str], Path], *, is_busy: Callable[[], bool], is_full: Callable[[], bool]
    ) -> None:
        self._fetch = fetch
        self._is_busy = is_busy
        self._is_full = is_full
        self._wanted: list[str] = []
        self._wake = threading.Condition()
        threading.Thread(target=self._run, name="prefetch", daemon=True).start()

    def want(self, digests: Iterable[str]) -> None:
        """Fetch these, in this order, and forget what was wanted before."""
        with self._wake:
            self._wanted = list(digests)
            self._wake.notify()

    def hasten(self, digests: Iterable[str]) -> None:
        """Fetch these first, where they are still wanted: a selector took them for likely."""
        likely = set(digests)
        with self._wake:
            self._wanted.sort(key=lambda digest: digest not in likely)

    def _run(self) -> None:
        while True:
            digest = self._next()
            try:
                self._fetch(digest)
            except SignalboxError as error:  # a job that needs it asks again, and waits where it has to
                log.warning("adapter_not_prefetched", digest=digest, code=error.code, error=error.detail)
            except Exception:  # without this thread every adapter is fetched while its job waits
                log.exception("prefetch_crashed", digest=digest)

    def _next(self) -> str:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted)
            if self._is_busy():
                threading.Event().wait(_PAUSE_SECONDS)  # the network and the disk belong to the jobs that run
            elif self._is_full():
                self.want([])
            else:
                with self._wake:
                    if self._wanted:
                        return self._wanted.pop(0)
