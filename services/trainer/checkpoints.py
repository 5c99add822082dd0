"""A running job's checkpoints in the object store, from which any trainer can resume after another was killed."""

import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import NotFound
from shared.registry.store import ObjectStore


class Checkpoints:
    """The newest checkpoint of each run of a job, and the results that its attempts share.

    A job that trains once has one run, without a name.
    """

    def __init__(self, store: ObjectStore, job_id: str, run: str = "") -> None:
        self._store = store
        self._job = f"checkpoints/{job_id}/"
        self._prefix = f"{self._job}{run}/" if run else self._job

    def save(self, folder: Path, step: int) -> None:
        """Store a checkpoint folder, then remove those of earlier steps."""
        # Zero-padded, so that the order of the keys is the order of the steps.
        own = f"{self._prefix}{step:09d}.tar"
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(file.name, "w") as archive:
                archive.add(folder, arcname=f"checkpoint-{step}")
            self._store.put_file(own, Path(file.name))
        for key in self._tars():
            if key < own:  # a stale attempt must not remove a later checkpoint of the current one
                self._store.delete(key)

    def restore(self, into: Path) -> Path | None:
        """Unpack the newest checkpoint below `into`; returns its folder, or None where there is none."""
        for key in reversed(self._tars()):
            try:
                self._store.get_file(key, into / "checkpoint.tar")
            except NotFound:  # removed since it was listed
                continue
            with tarfile.open(into / "checkpoint.tar") as packed:
                packed.extractall(into, filter="data")
            (into / "checkpoint.tar").unlink()
            return into / f"checkpoint-{int(Path(key).stem)}"
        return None

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result that the job stored under this name; the first call stores what `make` returns."""
        key = f"{self._job}{name}.json"
        try:
            stored: dict[str, Any] = json.loads(self._store.get(key))
        except NotFound:
            stored = make()
            self._store.put(key, json.dumps(stored).encode())
        return stored

    def drop(self) -> None:
        """Remove everything of the job, which has ended."""
        for key in self._store.keys(self._job):
            self._store.delete(key)

    def _tars(self) -> list[str]:
        own = (key for key in self._store.keys(self._prefix) if "/" not in key.removeprefix(self._prefix))
        return [key for key in own if key.endswith(".tar")]
