"""Unpacks uploaded archives under fixed names and bounds, or refuses them."""

import gzip
import io
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from shared.adapter_files.folder import CONFIG_NAME, WEIGHTS_NAME
from shared.adapter_files.packed import Packed, unsafe
from shared.errors import Invalid

_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_TAR_OVERHEAD = 1 << 20
_PASSED_OVER = 4
"""Bytes that may be passed over, such as an optimizer's, as a multiple of those that may be unpacked."""
_MAX_MEMBERS = 512  # a training's whole folder; macOS adds a file for every file and folder
_CHUNK = 1 << 20
_PLAIN_KINDS = {0, stat.S_IFREG, stat.S_IFDIR}
_ENCRYPTED = 1
_EXTENDED = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_MAX_EXTENDED_BYTES = 4096
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,  # a zip feature that the standard library does not support
    RecursionError,  # the standard library recurses for each extended header
    ValueError,
)
_ZIP_END, _ZIP64_END = b"PK\x05\x06", b"PK\x06\x07"
_ZIP_END_BYTES, _ZIP64_END_BYTES, _MAX_COMMENT_BYTES = 22, 20, 0xFFFF
_MAX_DIRECTORY_BYTES = 1 << 17


class _Member(NamedTuple):
    """One entry of an archive: its name in the archive, and its bytes (None for a folder)."""

    name: str
    data: BinaryIO | None


class Unpacked(NamedTuple):
    """The folder that an archive was unpacked to, and the names of the files that were passed over."""

    folder: Path
    passed_over: tuple[str, ...]


def unpack_adapter(archive: bytes | BinaryIO | Path, into: Path, max_bytes: int) -> Unpacked:
    """Unpack a zip, tar or tar.gz of one adapter into the new folder `into`, at most `max_bytes`.

    The adapter's files may be in one folder of the archive, however deep, and the adapter before its training in a
    folder of it (`initial` in `into`). Every other file is passed over unread, and no file is written under a name
    taken from the archive.
    Raises `Invalid` for an unsafe, unknown, damaged, incomplete or too large archive, and for one of two adapters; then
    it leaves no files.
    """
    into.mkdir(parents=True)
    try:
        with _opened(archive) as stream:
            return Unpacked(into, _unpack(stream, into, max_bytes))
    except BaseException as error:
        shutil.rmtree(into)
        if isinstance(error, _BROKEN):
            raise _corrupt(f"it cannot be read ({error})") from error
        raise


def _unpack(stream: BinaryIO, into: Path, max_bytes: int) -> tuple[str, ...]:
    room, packed, passed_over = max_bytes, Packed(into), []
    for member in _members(stream, max_bytes):
        folder, name = _place(member)
        if member.data is None or not name:
            continue
        if name not in {CONFIG_NAME, WEIGHTS_NAME}:
            passed_over.append(name)
            continue
        room -= _write(member.data, packed.target(folder, name), room, max_bytes)
    packed.settle(passed_over)
    return tuple(passed_over)


def _opened(archive: bytes | BinaryIO | Path) -> AbstractContextManager[BinaryIO]:
    if isinstance(archive, Path):
        return archive.open("rb")
    return io.BytesIO(archive) if isinstance(archive, bytes) else nullcontext(archive)


def _members(stream: BinaryIO, max_bytes: int) -> Iterator[_Member]:
    magic = stream.read(4)
    stream.seek(0)
    if magic == _ZIP:
        return _zip_members(stream)
    unzipped = gzip.GzipFile(fileobj=stream, mode="rb") if magic.startswith(_GZIP) else stream
    return _tar_members(_Bounded(unzipped, max_bytes * (1 + _PASSED_OVER) + _TAR_OVERHEAD, max_bytes))


def _tar_members(stream: "_Bounded") -> Iterator[_Member]:
    with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", tarinfo=_ShortHeaders) as tar:
        for count, member in enumerate(tar):
            if count >= _MAX_MEMBERS:
                raise unsafe(f"it has more than {_MAX_MEMBERS} entries")
            if not (member.isdir() or member.isreg()) or member.issparse():
                raise unsafe(f"{member.name!r} is a link or a device (tar -h packs what a link leads to)")
            yield _Member(member.name, cast("BinaryIO | None", tar.extractfile(member)))
    stream.drain()


def _check_directory(stream: BinaryIO) -> None:
    """Raise `Invalid` where the list of entries is long, before the standard library reads all of it.

    The list is found as the standard library finds it: by the last end record (APPNOTE.TXT 4.3.16), unless a zip64
    end record stands right before it.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - _ZIP64_END_BYTES - _ZIP_END_BYTES - _MAX_COMMENT_BYTES))
    tail = stream.read()
    at = tail.rfind(_ZIP_END)
    if at < 0:
        raise _corrupt("it has no end")
    entries, directory_bytes = struct.unpack_from("<10xHI", tail, at)
    is_zip64 = tail[max(0, at - _ZIP64_END_BYTES) : at].startswith(_ZIP64_END)
    if is_zip64 or entries > _MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise unsafe(f"it has more than {_MAX_MEMBERS} entries, or long ones")


def _zip_members(stream: BinaryIO) -> Iterator[_Member]:
    _check_directory(stream)
    with zipfile.ZipFile(stream) as archive:
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise unsafe(f"it has more than {_MAX_MEMBERS} entries")
        for info in archive.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in _PLAIN_KINDS or info.flag_bits & _ENCRYPTED:
                raise unsafe(f"{info.filename!r} is a link, a device or encrypted")
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise unsafe(f"{info.filename!r} is compressed in an unusual way")
            if info.is_dir():
                yield _Member(info.orig_filename, None)
                continue
            with archive.open(info) as data:
                yield _Member(info.orig_filename, cast("BinaryIO", data))


def _place(member: _Member) -> tuple[str, str]:
    """Return the folder and the name of a file in the archive, the name "" for a folder; raises `Invalid`."""
    path = member.name.replace("\\", "/").removeprefix("./")  # Windows packs with backslashes
    folder, _, name = path.rpartition("/")
    _check_path(path.removesuffix("/"))
    return folder, "" if "__MACOSX" in folder.split("/") else name


def _check_path(path: str) -> None:
    """Raise `Invalid` for a path that leads out of the archive; a folder may have any other name, for none is made."""
    parts = unicodedata.normalize("NFKC", path).split("/")
    if path[1:2] == ":" or (path not in {"", "."} and not {"", ".", ".."}.isdisjoint(parts)):
        raise unsafe(f"{path[:128]!r} is not a path inside the archive")


def _write(data: BinaryIO, target: Path, room: int, max_bytes: int) -> int:
    """Copy at most `room` bytes to a new file; returns the number of bytes."""
    written = 0
    with target.open("xb") as out:
        while chunk := data.read(_CHUNK):
            written += len(chunk)
            if written > room:
                raise _too_large(max_bytes)
            out.write(chunk)
    return written


class _ShortHeaders(tarfile.TarInfo):
    """Refuses long extended headers; the standard library may take hours to search them."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > _MAX_EXTENDED_BYTES:
            raise unsafe("it has a header of unusual length")
        return cast("tarfile.TarInfo", super()._proc_member(tar))  # type: ignore[misc]


class _Bounded:
    """A stream that raises an error after `limit` decompressed bytes."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit: int, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._max_bytes)
        return data

    def drain(self) -> None:
        """Read to the end, because gzip checks its checksum only there."""
        while self.read(_CHUNK):
            pass


def _corrupt(reason: str) -> Invalid:
    return Invalid(
        "adapter_archive_corrupt", f"the archive is damaged or no zip, tar or tar.gz: {reason}; send it again"
    )


def _too_large(max_bytes: int) -> Invalid:
    return Invalid(
        "adapter_archive_too_large", f"the archive unpacks to more than {max_bytes} bytes: train a smaller rank"
    )
