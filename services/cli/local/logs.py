"""Bounds the logs of processes that write them directly: a log that is full is copied aside, then emptied."""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def rotate(logs: Iterable[Path], max_bytes: int) -> None:
    """Empty each log of more than `max_bytes`; its last state stays beside it as `NAME.1`.

    The writers keep their file open for appending and go on at its new end. A line that is written between the copy and
    the emptying is lost, and where the disk is full the copy is cut: what does not happen is that a log fills the disk.
    """
    for log in logs:
        with contextlib.suppress(OSError):
            if log.stat().st_size > max_bytes:
                _empty(log)


def _empty(log: Path) -> None:
    try:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    finally:
        os.truncate(log, 0)
