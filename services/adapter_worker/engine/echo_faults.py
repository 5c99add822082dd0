"""Faults of the echo engine, for tests: `away`, `lost`, `memory` (each request fails as for want of it), `hang`."""

import threading
import time
from pathlib import Path

from services.adapter_worker.engine.base import EngineAway, EngineLost

_LOOK_SECONDS = 0.05


class EchoFaults:
    """What a file asks the engine to suffer from, while it is there; nothing without a file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lost: EngineLost | None = None
        self._hangs_since: float | None = None

    @property
    def hung_seconds(self) -> float:
        """For how long requests have hung."""
        since = self._hangs_since
        return 0.0 if since is None else time.monotonic() - since

    def check(self) -> None:
        """Raise what the file asks for; a lost engine stays lost."""
        fault = self._fault()
        if fault == "lost":
            self._lost = EngineLost("echo_lost", "SIGNALBOX_ECHO_FAULT_FILE says that the engine is lost")
        if self._lost:
            raise self._lost
        if fault == "away":
            raise EngineAway("echo_away", "SIGNALBOX_ECHO_FAULT_FILE says that the engine is away")

    def step(self, interrupted: threading.Event) -> None:
        """Suffer before a word: raise, or hang until the file is gone or the generation is interrupted."""
        self.check()
        fault = self._fault()
        if fault == "memory":
            raise EngineAway("echo_out_of_memory", "SIGNALBOX_ECHO_FAULT_FILE says that memory is out")
        while fault == "hang" and not interrupted.wait(_LOOK_SECONDS):
            self._hangs_since = self._hangs_since or time.monotonic()
            fault = self._fault()
        self._hangs_since = None

    def _fault(self) -> str:
        if self._file is None:
            return ""
        try:
            return self._file.read_text().strip()
        except FileNotFoundError:
            return ""
