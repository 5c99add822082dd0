"""Supervised service processes: how one is started and restarted."""

import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil

FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 30.0
STABLE_SECONDS = 10.0


class Backoff:
    """Delays the restart of a process: the pause doubles until the process has run for a while."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._due_at = 0.0

    def is_due(self) -> bool:
        """Whether the process may start now; the first call after its end starts the pause."""
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
    """One service process and its restarts."""

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
                start_new_session=True,  # only the supervisor gets Ctrl-C, and stops processes in order
                pass_fds=self._lock_fds,
            )
        self.was_seen, self.missed_beats = False, 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def state(self) -> str:
        """`running` or `restarting`, for display."""
        return "running" if self.is_alive else "restarting"

    def restart_if_dead(self) -> None:
        """Restart the process if it died and its pause is over."""
        if not self.is_alive and self._backoff.is_due():
            self.restarts += 1
            self.start()

    def end(self, sig: int) -> None:
        """Send a signal if the process runs."""
        if self.is_alive and self.process is not None:
            self.process.send_signal(sig)

    def tail(self, characters: int = 800) -> str:
        """The end of the process's log."""
        return self.log_path.read_text(errors="replace")[-characters:] if self.log_path.is_file() else ""


def peak_mib_of(pid: int) -> float:
    """Peak resident memory in MiB; on systems without `/proc`, the current size."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        try:
            return float(psutil.Process(pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0
