"""Watches the engine: while it can answer nothing, the process takes no jobs; it ends where only a new one helps."""

import threading

import structlog

from services.adapter_worker import metrics
from services.adapter_worker.engine import Engine
from services.adapter_worker.engine.base import CacheFigures, EngineAway, EngineLost
from shared.worker.service import Service

log = structlog.get_logger()
CHECK_SECONDS = 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 15.0


class EngineWatch:
    """A thread that checks the engine every few seconds, and at once where a job met an engine that is away."""

    def __init__(self, engine: Engine, service: Service) -> None:
        self._engine = engine
        self._service = service
        self._is_noted = threading.Event()
        self._is_stopped = False
        self._counted = CacheFigures()
        service.stuck_seconds = lambda: engine.stuck_seconds

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        metrics.ENGINE_UP.set(1)
        threading.Thread(target=self._run, name="engine-watch", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._is_noted.set()

    def note(self, error: EngineAway) -> None:
        """Take no more jobs until the engine has been checked."""
        self._hold_back(error)
        self._is_noted.set()

    def _run(self) -> None:
        pause_seconds = CHECK_SECONDS
        while not self._is_stopped:
            if self._is_noted.wait(pause_seconds):
                self._is_noted.clear()
                pause_seconds = CHECK_SECONDS
            try:
                self._engine.check()
            except EngineLost as error:
                self._hold_back(error)
                self._service.end_broken(error.detail)
                return
            except EngineAway as error:
                is_first = pause_seconds == CHECK_SECONDS
                pause_seconds = _FIRST_PAUSE_SECONDS if is_first else min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
                self._hold_back(error)
            except Exception:  # without this thread, the process would take no more jobs
                log.exception("engine_check_crashed")
            else:
                pause_seconds = CHECK_SECONDS
                self._let_pass()
                self._count(self._engine.cache)

    def _count(self, now: CacheFigures) -> None:
        """Count what the cache was asked for since the last look; an engine that counts anew was started anew."""
        before = self._counted if now.looked_up >= self._counted.looked_up else CacheFigures()
        metrics.PREFIX_QUERIES.inc(now.looked_up - before.looked_up)
        metrics.PREFIX_HITS.inc(max(0, now.found - before.found))
        self._counted = now

    def _hold_back(self, error: EngineAway) -> None:
        if not self._service.turnstile.why:
            log.warning("engine_away", code=error.code, error=error.detail)
        metrics.ENGINE_UP.set(0)
        self._service.turnstile.close(error.detail)

    def _let_pass(self) -> None:
        if self._service.turnstile.why:
            log.info("engine_back")
        metrics.ENGINE_UP.set(1)
        self._service.turnstile.open()
