"""The lock of a data folder: one system runs in it, and whoever keeps its file open belongs to that system."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from services.cli.local.data_version import check_version
from shared.errors import Conflict

FILE = "up.lock"


def lock_folder(data_dir: Path) -> IO[str]:
    """Lock the data folder for this process; raises `Conflict` if another system runs in it, or a newer one did."""
    make_private(data_dir)
    file = (data_dir / FILE).open("a")  # `w` would empty another's file
    if not _lock(file):
        file.close()
        raise Conflict(
            "already_up",
            f"processes of a system hold {data_dir}: run `signalbox down`, or set SIGNALBOX_DATA_DIR to another folder",
        )
    try:
        check_version(data_dir)
    except Conflict:
        file.close()
        raise
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def make_private(folder: Path) -> None:
    """Let nobody else enter a folder, or read what this process and those that it starts write from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)
    if folder.stat().st_mode & 0o077:  # new, or of a version that left it open
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)


def is_locked(data_dir: Path) -> bool:
    """Whether a process holds the folder, be it one that this user cannot see."""
    if not (data_dir / FILE).is_file():
        return False
    with (data_dir / FILE).open("a") as file:
        return not _lock(file)


def supervisor_pid(data_dir: Path) -> int:
    """The process that locked the folder last; 0 if none did."""
    file = data_dir / FILE
    return int(file.read_text() or 0) if file.is_file() else 0


def holders(data_dir: Path) -> list[psutil.Process]:
    """The processes that keep the folder's lock open: the supervisor and what it started, whatever their pids are."""
    path = str((data_dir / FILE).resolve())
    return [process for process in psutil.process_iter() if path in _open_files(process)]


def sessions(leaders: list[psutil.Process]) -> list[psutil.Process]:
    """The leaders, and every process in the session of one of them."""
    pids = {leader.pid for leader in leaders}
    return [process for process in psutil.process_iter() if process.pid in pids or _session(process.pid) in pids]


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_files(process: psutil.Process) -> Iterator[str]:
    with contextlib.suppress(psutil.Error):  # it ended, or belongs to another user
        yield from (file.path for file in process.open_files())


def _session(pid: int) -> int:
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return 0
