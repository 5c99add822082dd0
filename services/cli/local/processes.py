"""Service processes under supervision: how one is started, and when it is started again."""

import subprocess
import sys
import time
from pathlib import Path
from typing import IO

FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 30.0
STABLE_SECONDS = 10.0


class Backoff:
    """When a process that ended may start again: after a pause that grows until the process has run for a while."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._due_at = 0.0

    def is_due(self) -> bool:
        """Whether the process may start now; the first call after its end begins the pause."""
        now = time.monotonic()
        if not self._due_at:
            if now - self._started_at > STABLE_SECONDS:
                self._pause_seconds = FIRST_PAUSE_SECONDS
            self._due_at = now + self._pause_seconds
            self._pause_seconds = min(self._pause_seconds * 2, LAST_PAUSE_SECONDS)
        if now < self._due_at:
            return False
        self._started_at, self._due_at = now, 0.0
        return True


class Child:
    """One service process and its history."""

    def __init__(self, name: str, module: str, env: dict[str, str], log_dir: Path, lock_fds: tuple[int, ...]) -> None:
        self.name = name
        self.module = module
        self.env = env
        self.log_path = log_dir / f"{name}.log"
        self._lock_fds = lock_fds
        self.metrics_port = 0
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.was_seen = False
        self.missed_beats = 0
        self._backoff = Backoff()

    def start(self) -> None:
        """Start the process."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        log: IO[bytes]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", self.module],
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops things in order
                pass_fds=self._lock_fds,
            )
        self.was_seen, self.missed_beats = False, 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def state(self) -> str:
        """A word for people."""
        return "running" if self.is_alive else "restarting"

    def look(self) -> None:
        """Start it again, after a growing pause, when it died."""
        if not self.is_alive and self._backoff.is_due():
            self.restarts += 1
            self.start()

    def end(self, sig: int) -> None:
        """Send a signal where it lives."""
        if self.is_alive and self.process is not None:
            self.process.send_signal(sig)

    def tail(self, characters: int = 800) -> str:
        """The end of its log."""
        return self.log_path.read_text(errors="replace")[-characters:] if self.log_path.is_file() else ""
