"""A running job's checkpoints in the object store, so that any trainer can go on where a killed one was."""

import tarfile
import tempfile
from pathlib import Path

from shared.store import ObjectStore


class Checkpoints:
    """The newest checkpoint of one job; older ones are removed once it is stored whole."""

    def __init__(self, store: ObjectStore, job_id: str) -> None:
        self._store = store
        self._prefix = f"checkpoints/{job_id}/"

    def save(self, folder: Path, step: int) -> None:
        """Store a checkpoint folder."""
        older = self._store.keys(self._prefix)
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(file.name, "w") as archive:
                archive.add(folder, arcname=f"checkpoint-{step}")
            # Zero-padded, so that the order of the keys is the order of the steps.
            self._store.put_file(f"{self._prefix}{step:09d}.tar", Path(file.name))
        for key in older:
            self._store.delete(key)

    def restore(self, into: Path) -> Path | None:
        """Unpack the newest checkpoint below `into`; answers its folder, or None where there is none."""
        keys = self._store.keys(self._prefix)
        if not keys:
            return None
        archive = into / "checkpoint.tar"
        self._store.get_file(keys[-1], archive)
        with tarfile.open(archive) as packed:
            packed.extractall(into, filter="data")
        archive.unlink()
        step = int(keys[-1].rsplit("/", 1)[1].removesuffix(".tar"))
        return into / f"checkpoint-{step}"

    def drop(self) -> None:
        """Remove all of them: the job has ended."""
        for key in self._store.keys(self._prefix):
            self._store.delete(key)
