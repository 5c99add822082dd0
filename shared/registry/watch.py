"""Follows the release pointer: a hint by pub/sub is fast, the poll is sure, because a hint can be lost."""

import threading
import time
from collections.abc import Callable

import redis
import structlog

from shared.contracts.manifests import Release
from shared.errors import SignalboxError
from shared.names import RELEASE_CHANNEL
from shared.registry.registry import Registry

log = structlog.get_logger()
_STOP_SECONDS = 0.2


class ReleaseWatch:
    """A thread that knows the current release of one tenant and tells when it changes."""

    def __init__(
        self,
        registry: Registry,
        client: redis.Redis,
        tenant_id: str,
        on_change: Callable[[Release], None],
        *,
        poll_seconds: float,
    ) -> None:
        self._registry = registry
        self._redis = client
        self._tenant_id = tenant_id
        self._on_change = on_change
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release-watch", daemon=True)
        self.current: Release | None = None

    def start(self) -> None:
        """Look once, so that `current` is known, then follow in the background."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._poll_seconds + 1)

    def refresh(self) -> Release | None:
        """Read the pointer now; answers the current release."""
        release_id = self._registry.current_id(self._tenant_id)
        if release_id and (self.current is None or self.current.id != release_id):
            release = self._registry.release(self._tenant_id, release_id)
            self._on_change(release)
            self.current = release
        return self.current

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as hints:  # type: ignore[no-untyped-call]
                    hints.subscribe(RELEASE_CHANNEL)
                    while not self._stop.is_set():
                        self._await_hint(hints)
                        self.refresh()
            except (redis.RedisError, SignalboxError) as error:
                log.warning("release_watch_failed", error=str(error))
                self._stop.wait(self._poll_seconds)
            except Exception:  # without this thread the process keeps an old release for ever
                log.exception("release_watch_crashed")
                self._stop.wait(self._poll_seconds)

    def _await_hint(self, hints: "redis.client.PubSub") -> None:
        """Return after a hint or a poll's time, and soon after `stop`."""
        until = time.monotonic() + self._poll_seconds
        while time.monotonic() < until and not self._stop.is_set():
            if hints.get_message(timeout=min(self._poll_seconds, _STOP_SECONDS)):
                return
