"""Adapters that leave: a tar of a PEFT folder, received into a file and unpacked."""

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from signalbox.errors import SignalboxError
from signalbox.requests import Request

EXPORT_SECONDS = 300.0
EXPORTED = ("adapter_config.json", "adapter_model.safetensors", "README.md")


def request_of(ref: str) -> Request:
    """The request for an adapter's tar."""
    return Request("GET", f"/v1/adapters/{ref}/export", timeout_seconds=EXPORT_SECONDS)


def new_folder(folder: Path | str) -> Path:
    """The folder that the files go into, made where it is missing; raises `SignalboxError` where it holds anything."""
    made = Path(folder)
    try:
        made.mkdir(parents=True, exist_ok=True)
        is_empty = not any(made.iterdir())
    except OSError as error:
        raise SignalboxError("folder_unusable", f"{made} cannot be used ({error}): name another") from error
    if not is_empty:
        raise SignalboxError("folder_not_empty", f"{made} is not empty: name a new folder")
    return made


def new_file(folder: Path) -> IO[bytes]:
    """A file without a name, on the disk of the folder."""
    return tempfile.TemporaryFile(dir=folder)


@contextlib.contextmanager
def whole_file(to: Path) -> Iterator[IO[bytes]]:
    """A file that lies at `to` once it is whole, in place of what was there; raises `SignalboxError`."""
    part = to.with_name(f".part-{to.name}")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(to)
    except OSError as error:
        raise SignalboxError("file_unusable", f"{to} cannot be written ({error}): name another") from error
    finally:
        part.unlink(missing_ok=True)


def unpack(tar: IO[bytes], folder: Path) -> Path:
    """Write an adapter's files into the folder; raises `SignalboxError` where one is missing."""
    tar.seek(0)
    missing = set(EXPORTED)
    try:
        with tarfile.open(fileobj=tar) as members:
            for member in members:
                name = Path(member.name).name
                if member.isreg() and name in missing and (content := members.extractfile(member)):
                    _copy(content, folder / name)
                    missing.remove(name)
    except (tarfile.TarError, OSError) as error:
        raise SignalboxError("export_unreadable", f"what came is no whole tar ({error}): export it again") from error
    if missing:
        raise SignalboxError("export_unreadable", f"what came lacks {', '.join(sorted(missing))}: export it again")
    return folder


def _copy(content: IO[bytes], to: Path) -> None:
    with to.open("xb") as out:
        while piece := content.read(1 << 20):
            out.write(piece)
