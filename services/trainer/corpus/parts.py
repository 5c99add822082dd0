"""The work of a cleaning in parts: each is stored when it is done, so that a killed one is all that is done again."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from shared.errors import NotFound
from shared.registry.store import ObjectStore


class Parts:
    """The parts of one stage of a job, in the store and, while they are needed, on the disk."""

    def __init__(self, store: ObjectStore, job_id: str, stage: str, folder: Path) -> None:
        self._store = store
        self._prefix = f"checkpoints/{job_id}/{stage}-"
        self._folder = folder / stage
        self._folder.mkdir(parents=True, exist_ok=True)

    def done(self, number: int, make: Callable[[IO[bytes]], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Return what is noted of a part, and whether an earlier attempt had done it.

        `make` writes the part's lines and returns what is to be noted; equal work makes equal parts, so it does no harm
        where an attempt that lost its lease stores one as well.
        """
        key = f"{self._prefix}{number:06d}"
        try:
            return json.loads(self._store.get(f"{key}.json")), True
        except NotFound:
            pass
        with self._path(number).open("wb") as out:
            noted = make(out)
        self._store.put_file(f"{key}.jsonl", self._path(number))
        self._store.put(f"{key}.json", json.dumps(noted).encode())  # last: it says that the part is whole
        return noted, False

    def lines(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the objects of a part that is done."""
        with self.path(number).open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def path(self, number: int) -> Path:
        """Return where a part that is done lies, fetched where it has to be."""
        path = self._path(number)
        if not path.is_file():
            self._store.get_file(f"{self._prefix}{number:06d}.jsonl", path)
        return path

    def drop(self, number: int) -> None:
        """Take a part off the disk; the store keeps it."""
        self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.jsonl"
