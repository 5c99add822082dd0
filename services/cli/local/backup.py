"""`signalbox backup`: one file with all that the embedded system cannot make again, while it runs or when it does not.

The ledger's files are copied first, as they were at one moment, then the store's objects. What a record names was
stored before it and is deleted by nothing but `gc`, which waits: so the objects of every record are in the file.
The broker is left out, since the ledger has its messages sent again, and so are caches.
"""

import contextlib
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from services.cli.local.data_version import FILE, check_version
from services.cli.local.embedded import LEDGER_FILES, check_embedded, check_ledger, copy_ledger, store_of, upkeep
from shared.errors import Conflict, NotFound
from shared.registry.contents import group_of, is_whole
from shared.registry.store import ObjectStore
from shared.settings import Settings

SUMS = "SHA256SUMS"
STORE = "store"
KEYS = ("key", "webhook_key")


class BackedUp(NamedTuple):
    """What a backup holds."""

    file: str
    objects: int
    size_bytes: int
    corrupt: list[str]
    """Objects that were left out because their content is not what their key says."""


def backup(settings: Settings, file: Path) -> BackedUp:
    """Write a backup that its owner alone can read; raises `Conflict`, `Unavailable`."""
    check_embedded(settings)
    check_ledger(settings.data_dir)
    if file.exists():
        raise Conflict("backup_exists", f"{file} is there already: name another file")
    with upkeep(settings.data_dir), store_of(settings) as store, _Archive.replacing(file) as archive:
        check_version(settings.data_dir)
        archive.add(settings.data_dir / FILE, FILE)
        with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".backup-") as scratch:
            copy_ledger(settings.data_dir, Path(scratch) / "ledger")
            for copied in sorted((Path(scratch) / "ledger").iterdir()):
                archive.add(copied, f"{LEDGER_FILES}/{copied.name}")
        for key in KEYS:
            if (settings.data_dir / key).is_file():
                archive.add(settings.data_dir / key, key)
        corrupt = _add_objects(archive, store, file.absolute().parent)
        return BackedUp(str(file), archive.count(STORE), archive.size_bytes, corrupt)


def _add_objects(archive: "_Archive", store: ObjectStore, scratch: Path) -> list[str]:
    """Add every object, an adapter's together; returns the keys of those that are not what they should be."""
    corrupt = []
    for _, group in groupby(store.keys(""), key=group_of):
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".backup-") as folder:
            keys = list(group)
            try:
                for key in keys:
                    store.get_file(key, Path(folder) / key)
            except NotFound:  # it was deleted since it was listed, as files and parts of logs are
                continue
            if all(is_whole(Path(folder), key) for key in keys):
                for key in keys:
                    archive.add(Path(folder) / key, f"{STORE}/{key}")
            else:
                corrupt += keys
    return corrupt


class _Archive:
    """A tar file whose last member lists the SHA-256 of the others."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._sums: dict[str, str] = {}
        self.size_bytes = 0

    @classmethod
    @contextlib.contextmanager
    def replacing(cls, file: Path) -> Iterator["_Archive"]:
        """Yield an archive that becomes `file` when it is whole; nothing stays of one that fails."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        try:
            part.unlink(missing_ok=True)
            part.touch(mode=0o600)
            with tarfile.open(part, "w") as tar:
                archive = cls(tar)
                yield archive
                archive.close()
            part.rename(file)
        finally:
            part.unlink(missing_ok=True)

    def add(self, path: Path, name: str) -> None:
        """Add a file under a name, without its owner, rights and time."""
        with path.open("rb") as content:
            self._sums[name] = hashlib.file_digest(content, "sha256").hexdigest()
            content.seek(0)
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o600
            self._tar.addfile(member, content)
            self.size_bytes += member.size

    def count(self, folder: str) -> int:
        """Count the files that stand in a folder."""
        return sum(name.startswith(f"{folder}/") for name in self._sums)

    def close(self) -> None:
        """Add the list; a file without it is not whole."""
        listed = "".join(f"{digest}  {name}\n" for name, digest in self._sums.items()).encode()
        member = tarfile.TarInfo(SUMS)
        member.size, member.mode = len(listed), 0o600
        self._tar.addfile(member, io.BytesIO(listed))
