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

from shared.adapter_files.folder import IGNORED_NAMES, check_complete, check_file_name
from shared.errors import Invalid

_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_TAR_OVERHEAD = 1 << 20
_MAX_MEMBERS = 64  # macOS adds a file for every file and folder
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
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
_MAX_DIRECTORY_BYTES = 1 << 16


class _Member(NamedTuple):
    """One entry of an archive: its name in the archive, and its bytes (None for a folder)."""

    name: str
    data: BinaryIO | None


def unpack_adapter(archive: bytes | BinaryIO | Path, into: Path, max_bytes: int) -> Path:
    """Unpack a zip, tar or tar.gz of one adapter into the new folder `into`, at most `max_bytes`; returns `into`.

    The files may be in one folder of the archive, however deep; what macOS and Windows add is passed over. No file is
    written under a name taken from the archive.
    Raises `Invalid` for an unsafe, unknown, damaged, incomplete or too large archive, and then leaves no files.
    """
    into.mkdir(parents=True)
    try:
        with _opened(archive) as stream:
            _unpack(stream, into, max_bytes)
    except BaseException as error:
        shutil.rmtree(into)
        if isinstance(error, _BROKEN):
            raise _corrupt(f"it cannot be read ({error})") from error
        raise
    return into


def _unpack(stream: BinaryIO, into: Path, max_bytes: int) -> None:
    room = max_bytes
    seen: set[str] = set()
    for member in _members(stream, max_bytes):
        name = _file_name(member, seen)
        if member.data is not None and name and name not in IGNORED_NAMES:
            room -= _write(member.data, into / name, room, max_bytes)
    folders = sorted({path.rpartition("/")[0] for path in seen})
    if len(folders) > 1:
        raise _unsafe(f"its files lie in different folders, {folders[0][:128]!r} and {folders[1][:128]!r}")
    check_complete({path.rpartition("/")[2] for path in seen})


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
    return _tar_members(_Bounded(unzipped, max_bytes + _TAR_OVERHEAD))


def _tar_members(stream: "_Bounded") -> Iterator[_Member]:
    with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", tarinfo=_ShortHeaders) as tar:
        for count, member in enumerate(tar):
            if count >= _MAX_MEMBERS:
                raise _unsafe(f"it has more than {_MAX_MEMBERS} entries")
            if not (member.isdir() or member.isreg()) or member.issparse():
                raise _unsafe(f"{member.name!r} is a link or a device")
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
        raise _unsafe(f"it has more than {_MAX_MEMBERS} entries, or long ones")


def _zip_members(stream: BinaryIO) -> Iterator[_Member]:
    _check_directory(stream)
    with zipfile.ZipFile(stream) as archive:
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise _unsafe(f"it has more than {_MAX_MEMBERS} entries")
        for info in archive.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in _PLAIN_KINDS or info.flag_bits & _ENCRYPTED:
                raise _unsafe(f"{info.filename!r} is a link, a device or encrypted")
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise _unsafe(f"{info.filename!r} is compressed in an unusual way")
            if info.is_dir():
                yield _Member(info.orig_filename, None)
                continue
            with archive.open(info) as data:
                yield _Member(info.orig_filename, cast("BinaryIO", data))


def _file_name(member: _Member, seen: set[str]) -> str:
    """Return the name of a file of the adapter, "" for a folder or junk; adds its path to `seen`, raises `Invalid`."""
    path = member.name.replace("\\", "/").removeprefix("./")  # Windows packs with backslashes
    folder, _, name = path.rpartition("/")
    _check_path(path.removesuffix("/"))
    if member.data is None or not name or _is_junk(folder, name):
        return ""
    if not (name.isascii() and name.isprintable()):
        raise _unsafe(f"the file name {name[:128]!r} has letters that no file of an adapter has")
    check_file_name(name)
    if path in seen:
        raise _unsafe(f"{path[:128]!r} comes twice")
    seen.add(path)
    return name


def _check_path(path: str) -> None:
    """Raise `Invalid` for a path that leads out of the archive; a folder may have any other name, for none is made."""
    parts = unicodedata.normalize("NFKC", path).split("/")
    if path[1:2] == ":" or (path not in {"", "."} and not {"", ".", ".."}.isdisjoint(parts)):
        raise _unsafe(f"{path[:128]!r} is not a path inside the archive")


def _is_junk(folder: str, name: str) -> bool:
    """Whether macOS or Windows put the file there, beside those that were packed."""
    return "__MACOSX" in folder.split("/") or name.startswith("._") or name in _JUNK


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
            raise _unsafe("it has a header of unusual length")
        return cast("tarfile.TarInfo", super()._proc_member(tar))  # type: ignore[misc]


class _Bounded:
    """A stream that raises an error after `limit` decompressed bytes."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._limit - _TAR_OVERHEAD)
        return data

    def drain(self) -> None:
        """Read to the end, because gzip checks its checksum only there."""
        while self.read(_CHUNK):
            pass


def _unsafe(reason: str) -> Invalid:
    return Invalid("adapter_archive_unsafe", f"the archive is refused: {reason}; pack the two adapter files plainly")


def _corrupt(reason: str) -> Invalid:
    return Invalid(
        "adapter_archive_corrupt", f"the archive is damaged or no zip, tar or tar.gz: {reason}; send it again"
    )


def _too_large(max_bytes: int) -> Invalid:
    return Invalid(
        "adapter_archive_too_large", f"the archive unpacks to more than {max_bytes} bytes: train a smaller rank"
    )
