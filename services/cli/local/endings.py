"""How processes are ended that are not children of this one."""

import contextlib
import time
from collections.abc import Callable, Sequence

import psutil

KILL_MARGIN_SECONDS = 5.0
_POLL_SECONDS = 0.05


def end(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Terminate processes; kill those that take longer."""
    terminate(processes)
    wait_or_kill(processes, seconds)


def terminate(processes: Sequence[psutil.Process]) -> None:
    """Tell processes to end."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def wait_or_kill(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Wait until they have ended; kill those that take longer."""
    if becomes(lambda: not any(map(_runs, processes)), seconds):
        return
    for process in filter(_runs, processes):
        with contextlib.suppress(psutil.Error):
            process.kill()
    becomes(lambda: not any(map(_runs, processes)), KILL_MARGIN_SECONDS)


def becomes(is_true: Callable[[], bool], seconds: float) -> bool:
    """Wait until it is true; returns whether it is in time."""
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _runs(process: psutil.Process) -> bool:
    """Whether the process lives; what has ended stays listed where nobody collects its status."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
