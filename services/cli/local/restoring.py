"""`signalbox restore`: a system from a backup, into a folder that holds none; what is not whole is never used."""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from services.cli.local.backup import KEYS, STORE, SUMS, BackedUp
from services.cli.local.data_version import FILE, check_format
from services.cli.local.embedded import check_embedded, running_store
from services.cli.local.folder_lock import is_locked, lock_folder
from shared.errors import Conflict, Invalid
from shared.registry.contents import is_whole
from shared.settings import Settings

_STAGING = "restoring"
_PARTS = ("s3", "ledger", *KEYS)


def restore(settings: Settings, file: Path) -> BackedUp:
    """Restore a backup; raises `Invalid` where it is not whole, `Conflict` where a system is in the folder.

    Everything is unpacked and compared beside its place and moved there in the end: what fails leaves the folder as it
    was, and a restore that was killed begins anew.
    """
    check_embedded(settings)
    data_dir = settings.data_dir
    if is_locked(data_dir):
        raise Conflict("already_up", f"a system runs in {data_dir}: run `signalbox down` first")
    staging = data_dir / _STAGING
    with lock_folder(data_dir) as lock:
        if held := [name for name in _PARTS if (data_dir / name).exists()]:
            raise Conflict(
                "folder_in_use",
                f"{data_dir} holds a system ({', '.join(held)}): move it away, or set SIGNALBOX_DATA_DIR to another",
            )
        shutil.rmtree(staging, ignore_errors=True)
        try:
            restored = _restore(settings, file, staging, lock)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return restored


def _restore(settings: Settings, file: Path, staging: Path, lock: IO[str]) -> BackedUp:
    unpacked = staging / "unpacked"
    _unpack(file, unpacked)
    keys = _checked(file, unpacked)
    with running_store(settings, staging / "s3", lock) as store:
        for key in keys:
            store.put_file(key, unpacked / STORE / key)
    (unpacked / "ledger").rename(staging / "ledger")
    for key in KEYS:
        if (unpacked / key).exists():
            (unpacked / key).rename(staging / key)
    for name in _PARTS:
        if (staging / name).exists():
            (staging / name).rename(settings.data_dir / name)
    return BackedUp(str(file), len(keys), file.stat().st_size, [])


def _unpack(file: Path, into: Path) -> None:
    into.mkdir(parents=True)
    try:
        with tarfile.open(file) as archive:
            archive.extractall(into, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise _not_whole(file, str(error)) from error


def _checked(file: Path, unpacked: Path) -> list[str]:
    """Return the keys of the store's objects; raises `Invalid` where a file is missing, unlisted or altered."""
    if not (unpacked / SUMS).is_file() or not (unpacked / FILE).is_file():
        raise _not_whole(file, "its list is missing")
    check_format(int((unpacked / FILE).read_text()), str(file))
    lines = (line.partition("  ") for line in (unpacked / SUMS).read_text().splitlines())
    listed = {name: digest for digest, _, name in lines}
    found = {name: path for name, path in _files(unpacked) if name != SUMS}
    if odd := sorted(found.keys() ^ listed.keys()):
        raise _not_whole(file, f"{odd[0]} is missing or not listed")
    if altered := next((name for name, path in found.items() if _sha256(path) != listed[name]), ""):
        raise _not_whole(file, f"{altered} does not match its digest")
    keys = [name.removeprefix(f"{STORE}/") for name in sorted(found) if name.startswith(f"{STORE}/")]
    if altered := next((key for key in keys if not is_whole(unpacked / STORE, key)), ""):
        raise _not_whole(file, f"{altered} is not what its name says")
    return keys


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    return ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _not_whole(file: Path, why: str) -> Invalid:
    return Invalid("backup_corrupt", f"{file} is no whole backup ({why}): take another copy of it")
