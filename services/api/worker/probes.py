"""Probes of the API's worker: `/livez` (its event loop turns), `/readyz` (ledger and object store answer)."""

import asyncio
import time

import redis

from shared.errors import SignalboxError
from shared.registry.store import S3Store
from shared.settings import Settings
from shared.worker.probes import Answer, serve_probes

_BEAT_SECONDS = 1.0
_STUCK_SECONDS = 60.0
_TIMEOUT_SECONDS = 1.0


class Pulse:
    """When the event loop last got its turn."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    async def beat(self) -> None:
        """Note each turn, for ever."""
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)

    @property
    def turns(self) -> bool:
        """Whether it had a turn lately."""
        return time.monotonic() - self._at < _STUCK_SECONDS


def serve(settings: Settings, pulse: Pulse) -> None:
    """Serve the probes at `metrics_host` and `metrics_port` until the process ends; port 0 serves none."""
    store = S3Store(settings)
    serve_probes(settings, {"/livez": lambda: liveness(pulse), "/readyz": lambda: readiness(settings, store)})


def liveness(pulse: Pulse) -> Answer:
    """Check that the process is not stuck; servers that are away are no reason to restart it."""
    return Answer(pulse.turns, f"event loop: {'turns' if pulse.turns else 'got no turn for long'}\n")


def readiness(settings: Settings, store: S3Store) -> Answer:
    """Check that the worker can go on: without ledger or object store it waits."""
    answers = {"ledger": _ledger(settings.redis_url), "store": _store(store)}
    told = "".join(f"{name}: {'answers' if ok else 'does not answer'}\n" for name, ok in answers.items())
    return Answer(all(answers.values()), told)


def _ledger(url: str) -> bool:
    try:
        with redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        ) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _store(store: S3Store) -> bool:
    try:
        store.exists("ready")
    except SignalboxError:
        return False
    return True
