"""The parts of a system that `signalbox up` started here: its lock, its store, the files of its ledger."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from services.cli.local.folder_lock import FILE, is_locked, lock_folder
from services.cli.local.run_state import current_settings
from services.cli.local.servers import free_ports, s3_server
from shared.errors import Conflict, Unavailable
from shared.registry.store import S3Store
from shared.settings import Settings

LEDGER_FILES = "ledger/appendonlydir"
_UPKEEP = "upkeep.lock"
_MANIFEST = "appendonly.aof.manifest"
_PIECE_BYTES = 1 << 20
_TRIES = 100


def check_embedded(settings: Settings) -> None:
    """Raise `Conflict` where the environment names servers of one's own."""
    if own := settings.model_fields_set & {"redis_url", "s3_url"}:
        named = " and ".join(f"SIGNALBOX_{name.upper()}" for name in sorted(own))
        raise Conflict("not_embedded", f"{named} names a server of your own: save that by its own means")


def check_ledger(data_dir: Path) -> None:
    """Raise `Unavailable` where the folder has no ledger."""
    if not (data_dir / LEDGER_FILES).is_dir():
        raise Unavailable("ledger_missing", f"{data_dir} holds no ledger: did `signalbox up` run here?")


@contextlib.contextmanager
def upkeep(data_dir: Path) -> Iterator[None]:
    """Keep backups and deletions of garbage apart; raises `Conflict` where the other one runs.

    A folder in which no `up` ever ran has nothing to back up: there is no lock.
    """
    if not (data_dir / FILE).is_file():
        yield
        return
    with (data_dir / _UPKEEP).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("upkeep_runs", f"`gc` or `backup` works on {data_dir}: try again when it is done") from error
        yield


@contextlib.contextmanager
def store_of(settings: Settings) -> Iterator[S3Store]:
    """The store of the system that runs in the data folder; where none runs, the folder's, started for a while."""
    if is_locked(settings.data_dir):
        yield S3Store(current_settings(settings))
        return
    with lock_folder(settings.data_dir) as lock, running_store(settings, settings.data_dir / "s3", lock) as store:
        yield store


@contextlib.contextmanager
def running_store(settings: Settings, folder: Path, lock: IO[str]) -> Iterator[S3Store]:
    """Start the object store of a folder, and end it; it holds the lock, too. Raises `Unavailable`."""
    (port,) = free_ports(1)
    own = {"s3_url": f"http://127.0.0.1:{port}", "s3_secret_key": secrets.token_urlsafe(24)}
    known = Settings(**settings.model_dump(exclude_unset=True) | own)
    server = s3_server(known, folder)
    server.lock_fds = (lock.fileno(),)  # `down` ends it where this process was killed
    server.start()
    try:
        yield S3Store(known)
    finally:
        server.kill()  # what it acknowledged is on disk, and it takes up to 30 s to end by itself


def copy_ledger(data_dir: Path, into: Path) -> None:
    """Copy the ledger's append-only files as they were at one moment; its server may write on.

    Files are only appended to, and replaced as a set, which the manifest lists: they are opened, and where the manifest
    is the same afterwards, what stood in them then is a beginning of the ledger's history, to its last acknowledged
    write. Raises `Unavailable`.
    """
    folder = data_dir / LEDGER_FILES
    into.mkdir(parents=True)
    for _ in range(_TRIES):
        with contextlib.ExitStack() as opened, contextlib.suppress(FileNotFoundError):
            before = _manifest(folder)
            files = [opened.enter_context((folder / name).open("rb")) for name in _listed(before)]
            sizes = [os.fstat(file.fileno()).st_size for file in files]
            if _manifest(folder) == before:
                for file, size in zip(files, sizes, strict=True):
                    _copy(file, size, into)
                (into / _MANIFEST).write_bytes(before)
                return
    raise Unavailable("ledger_unreadable", f"the files in {folder} changed {_TRIES} times while they were opened")


def _manifest(folder: Path) -> bytes:
    return (folder / _MANIFEST).read_bytes()


def _listed(manifest: bytes) -> list[str]:
    """Return the names in lines such as `file appendonly.aof.1.incr.aof seq 1 type i`, without those to be deleted."""
    lines = [line.split() for line in manifest.decode().splitlines() if line]
    return [words[1] for words in lines if words[-1] != "h"]


def _copy(file: BinaryIO, size: int, into: Path) -> None:
    with (into / Path(file.name).name).open("wb") as copy:
        while size and (piece := file.read(min(size, _PIECE_BYTES))):
            copy.write(piece)
            size -= len(piece)
