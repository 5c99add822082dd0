"""`signalbox down`: ends the system that holds a data folder, be its supervisor alive or not."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import psutil

from services.cli.local.endings import KILL_MARGIN_SECONDS, becomes, end
from services.cli.local.folder_lock import holders, is_locked, sessions, supervisor_pid
from services.cli.local.run_state import RunState
from services.cli.local.supervisor import SERVER_STOP_SECONDS
from shared.errors import Conflict


def down(data_dir: Path) -> list[int]:
    """End the processes that hold the data folder, services before servers; returns their pids once the folder is free.

    Raises `Conflict` if one of them belongs to another user.
    """
    state = RunState(data_dir)
    known, found = state.read(), holders(data_dir)
    drain_seconds = known.get("drain_seconds", 0) + KILL_MARGIN_SECONDS
    # The supervisor ends all others by itself, in this order and within these times.
    end([p for p in found if p.pid == supervisor_pid(data_dir)], drain_seconds + 4 * SERVER_STOP_SECONDS)
    orphans = holders(data_dir)
    left = sessions(orphans)
    servers = [p for p in orphans if p.pid in known.get("servers", {}).values()]
    end([p for p in orphans if p not in servers and not _has_parent(p, orphans)], drain_seconds)
    end(servers, SERVER_STOP_SECONDS)
    end(left, SERVER_STOP_SECONDS)
    # A process counts as ended when its first thread has; the last one lets go of the lock.
    if not becomes(lambda: not is_locked(data_dir), KILL_MARGIN_SECONDS):
        raise Conflict("folder_held", f"processes of another user hold {data_dir}: run `signalbox down` as that user")
    state.clear()
    return [process.pid for process in found]


def _has_parent(process: psutil.Process, among: Sequence[psutil.Process]) -> bool:
    """Whether another of them started the process, and so ends it."""
    with contextlib.suppress(psutil.Error):
        return process.parent() in among
    return False
