"""Bytes of a file as they arrive, unpacked where they are gzip or zstd: memory is that of one piece."""

import importlib
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol

from shared.errors import Invalid

PIECE_BYTES = 256 << 10
MAX_UNPACKED_BYTES = 8 << 30
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")
"""Python's own from 3.14 on, and its backport."""
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"BZh": "packed by bzip2: unpack it with `bzip2 -d`",
    b"\xfd7zXZ": "packed by xz: unpack it with `xz -d`",
    b"PAR1": "Parquet: write its rows as JSON lines (pandas: to_json(FILE, orient='records', lines=True))",
    b"%PDF": "a PDF: write its texts as rows",
}
HEAD_BYTES = 6
"""As many as tell every form apart."""


class Unpacker(Protocol):
    """One way of packing."""

    name: str

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what this piece unpacks to; raises `Invalid` where it is damaged."""

    def end(self) -> None:
        """Raise `Invalid` where the file ends too early."""


class Gzip:
    """Gzip, of one member or of several."""

    name = "gzip"

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._is_begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what this piece unpacks to; raises `Invalid` where it is damaged."""
        while piece := self._next_member(piece):
            self._is_begun = True
            try:
                yield self._member.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise _damaged(self.name, str(error)) from error
            piece = self._member.unconsumed_tail or self._member.unused_data

    def _next_member(self, piece: bytes) -> bytes:
        if not self._member.eof:
            return piece
        piece = piece.lstrip(b"\0")  # a tape's padding
        if piece:
            self._member, self._is_begun = zlib.decompressobj(zlib.MAX_WBITS | 16), False
        return piece

    def end(self) -> None:
        """Raise `Invalid` where the file ends too early."""
        if not self._member.eof:
            raise _damaged(self.name, "it ends too early")


class Zstd:
    """Zstandard, of one frame or of several, by Python's own module or its backport."""

    name = "zstd"

    def __init__(self) -> None:
        self._zstd = _zstd_module()
        self._frame: Any = self._zstd.ZstdDecompressor()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what this piece unpacks to; raises `Invalid` where it is damaged."""
        while piece or not (self._frame.eof or self._frame.needs_input):
            if self._frame.eof:
                self._frame = self._zstd.ZstdDecompressor()
            try:
                yield self._frame.decompress(piece, PIECE_BYTES)
            except self._zstd.ZstdError as error:
                raise _damaged(self.name, str(error)) from error
            piece = self._frame.unused_data if self._frame.eof else b""

    def end(self) -> None:
        """Raise `Invalid` where the file ends too early."""
        if not self._frame.eof:
            raise _damaged(self.name, "it ends too early")


def unpacker_of(head: bytes) -> Unpacker | None:
    """Return what unpacks a file with this head, None for one that is not packed.

    Raises `Invalid` for what is known not to be rows, and for zstd where no module reads it.
    """
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise Invalid("file_unreadable", f"the file is {what}")
    if head.startswith(_GZIP):
        return Gzip()
    return Zstd() if head.startswith(_ZSTD) else None


def has_zstd() -> bool:
    """Whether a module reads zstd here."""
    return _found_module() is not None


def _zstd_module() -> ModuleType:
    found = _found_module()
    if found is None:
        raise Invalid(
            "file_unreadable",
            "the file is packed by zstd, which nothing reads here: unpack it with `zstd -d FILE`, or install "
            "backports.zstd (Python 3.14 needs nothing)",
        )
    return found


def _found_module() -> ModuleType | None:
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _damaged(name: str, why: str) -> Invalid:
    return Invalid("file_unreadable", f"the file is packed by {name} and cannot be read ({why}): pack it again, whole")
