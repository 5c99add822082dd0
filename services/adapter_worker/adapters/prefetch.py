"""Fetches adapters to the disk before a job needs them, while the worker is idle."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from shared.errors import SignalboxError

log = structlog.get_logger()
_PAUSE_SECONDS = 0.05


class Prefetcher:
    """One thread that fetches the wanted adapters, one at a time, until the disk cache is full.

    A job whose adapter is not in memory then waits for the disk instead of the object store.
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
        """Replace the list of wanted adapters; they are fetched in this order."""
        with self._wake:
            self._wanted = list(digests)
            self._wake.notify()

    def hasten(self, digests: Iterable[str]) -> None:
        """Fetch these first if they are still wanted: a selector scored them as likely."""
        likely = set(digests)
        with self._wake:
            self._wanted.sort(key=lambda digest: digest not in likely)

    def _run(self) -> None:
        while True:
            digest = self._next()
            try:
                self._fetch(digest)
            except SignalboxError as error:  # a job that needs it fetches it again, and waits if it must
                log.warning("adapter_not_prefetched", digest=digest, code=error.code, error=error.detail)
            except Exception:  # the thread must live on, or each job would wait for its adapter
                log.exception("prefetch_crashed", digest=digest)

    def _next(self) -> str:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted)
            if self._is_busy():
                threading.Event().wait(_PAUSE_SECONDS)  # running jobs have priority on the network and the disk
            elif self._is_full():
                self.want([])
            else:
                with self._wake:
                    if self._wanted:
                        return self._wanted.pop(0)
