"""Watches the release pointers of all tenants, by pub/sub hints, which are fast, and by polls, as hints can be lost."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import redis
import structlog

from shared.contracts.manifests import Release
from shared.errors import SignalboxError
from shared.names import DEFAULT_TENANT, RELEASE_CHANNEL
from shared.registry.releases import Releases

log = structlog.get_logger()
_STOP_SECONDS = 0.2


class CurrentRelease(NamedTuple):
    """A release and its id, which is computed once because it is a hash over the release's content."""

    id: str
    release: Release


def note_release(info: dict[str, Any], release: Release) -> None:
    """Report this release in a process's presence as adopted; the field `release` names the default tenant's."""
    info["releases"] = {**info.get("releases", {}), release.tenant_id: release.id}
    if release.tenant_id == DEFAULT_TENANT:
        info["release"] = release.id


class ReleaseWatch:
    """A thread that reads the current release of every tenant and calls `on_change` with each new one.

    If `on_change` fails, it is called again at the next poll.
    """

    def __init__(
        self,
        releases: Releases,
        client: redis.Redis,
        on_change: Callable[[Release], None],
        *,
        poll_seconds: float,
        on_poll: Callable[[], None] = lambda: None,
        on_hint: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_poll` is called in the thread after each poll, `on_hint` after a tenant's hint; errors are logged."""
        self._releases = releases
        self._redis = client
        self._on_change = on_change
        self._poll_seconds = poll_seconds
        self._on_poll = on_poll
        self._on_hint = on_hint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release-watch", daemon=True)
        self._current: dict[str, CurrentRelease] = {}
        self._adopted: dict[str, str] = {}
        """By tenant, the id of the last release for which `on_change` succeeded."""

    @property
    def releases(self) -> list[Release]:
        """The current release of every tenant, as last read."""
        return [current.release for current in list(self._current.values())]

    def current(self, tenant_id: str) -> CurrentRelease | None:
        """The current release of a tenant, as last read."""
        return self._current.get(tenant_id)

    def start(self) -> None:
        """Read all pointers once and call `on_change`, then watch in the background; raises `RedisError`."""
        self.refresh_all()
        self.follow()

    def follow(self) -> None:
        """Watch in the background; Redis may still be down."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for its end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._poll_seconds + 1)

    def refresh(self, tenant_id: str) -> CurrentRelease | None:
        """Read one tenant's pointer now and return its release; raises `RedisError`, `NotFound`, and as `on_change`."""
        release_id = self._releases.current_id(tenant_id)
        self._read(tenant_id, release_id)
        self._notify(tenant_id, release_id)
        return self._current.get(tenant_id)

    def refresh_all(self) -> None:
        """Read the pointers of all tenants now; the next poll retries a release that cannot be read or adopted."""
        tenants = [DEFAULT_TENANT, *sorted((self._releases.tenants() | self._current.keys()) - {DEFAULT_TENANT})]
        ids = self._releases.current_ids(tenants)
        for step in (self._read, self._notify):  # read all first: `on_change` may plan for all tenants
            for tenant_id, release_id in ids.items():
                self._attempt(partial(step, tenant_id, release_id), tenant_id)

    def _attempt(self, step: Callable[[], object], tenant_id: str) -> None:
        """Run a step and log its error, so that one tenant's failure does not affect other tenants."""
        try:
            step()
        except SignalboxError as error:
            log.warning("release_watch_failed", tenant_id=tenant_id, error=str(error))
        except redis.RedisError:
            raise
        except Exception:
            log.exception("release_watch_crashed", tenant_id=tenant_id)

    def _read(self, tenant_id: str, release_id: str) -> None:
        known = self._current.get(tenant_id)
        if release_id and (known is None or known.id != release_id):
            self._current[tenant_id] = CurrentRelease(release_id, self._releases.get(tenant_id, release_id))

    def _notify(self, tenant_id: str, release_id: str) -> None:
        known = self._current.get(tenant_id)
        if known and known.id == release_id != self._adopted.get(tenant_id):
            self._on_change(known.release)
            self._adopted[tenant_id] = release_id

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow_hints()
            except redis.RedisError as error:
                log.warning("release_watch_failed", error=str(error))
                self._stop.wait(self._poll_seconds)
            except Exception:  # without this thread, the process would keep old releases
                log.exception("release_watch_crashed")
                self._stop.wait(self._poll_seconds)

    def _follow_hints(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as hints:  # type: ignore[no-untyped-call]
            hints.subscribe(RELEASE_CHANNEL)
            poll_at = 0.0
            while not self._stop.is_set():
                if time.monotonic() >= poll_at:
                    self.refresh_all()
                    self._attempt(self._on_poll, "")
                    poll_at = time.monotonic() + self._poll_seconds
                elif tenant_id := self._next_hint(hints, poll_at):
                    self._attempt(partial(self.refresh, tenant_id), tenant_id)
                    self._attempt(partial(self._on_hint, tenant_id), tenant_id)

    def _next_hint(self, hints: "redis.client.PubSub", until: float) -> str:
        """Return the tenant of the next hint; empty where none arrives before `until`, or soon after `stop`."""
        seconds = min(until - time.monotonic(), _STOP_SECONDS)
        message = hints.get_message(timeout=max(seconds, 0.0))
        return str(message["data"]) if message else ""
