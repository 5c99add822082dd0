"""Cache of adapters on the local disk, between the object store and memory; all workers of a machine share it."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

_IN_USE_SECONDS = 600.0
"""An adapter fetched this recently is not removed: another worker may be about to open it."""


class DiskCache:
    """Keeps the folder under `max_bytes` by removing the least recently used adapters."""

    def __init__(self, fetch: Callable[[str], Path], folder: Path, max_bytes: int) -> None:
        self._fetch = fetch
        self._folder = folder
        self._max_bytes = max_bytes

    def fetch(self, digest: str) -> Path:
        """The adapter's folder; the first call downloads it and checks its digest."""
        is_new = not (self._folder / digest).is_dir()
        found = self._fetch(digest)
        os.utime(found)
        if is_new:
            self._prune()
        return found

    @property
    def is_full(self) -> bool:
        """Whether fetching another adapter would remove one."""
        return sum(_size(entry) for entry in self._entries()) >= self._max_bytes

    def _entries(self) -> list[Path]:
        return [entry for entry in self._folder.iterdir() if _is_adapter(entry)] if self._folder.is_dir() else []

    def _prune(self) -> None:
        entries = sorted(self._entries(), key=_used)
        left = sum(map(_size, entries))
        for entry in entries:
            if left <= self._max_bytes or _used(entry) > time.time() - _IN_USE_SECONDS:
                return
            left -= _size(entry)
            shutil.rmtree(entry, ignore_errors=True)


def _is_adapter(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")  # a name with a leading dot is still being downloaded


def _used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # another worker removed it
        return 0.0


def _size(entry: Path) -> int:
    try:
        return sum(file.stat().st_size for file in entry.rglob("*"))
    except FileNotFoundError:
        return 0
