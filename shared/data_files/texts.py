"""The text of a file as UTF-8, as its bytes arrive: unpacked, without its mark, UTF-16 converted."""

import codecs
from collections.abc import Callable, Iterator

from shared.data_files.unpack import HEAD_BYTES, MAX_UNPACKED_BYTES, Unpacker, unpacker_of
from shared.errors import Invalid

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UNMARKED_UTF16 = "the file looks like UTF-16 without a byte order mark; save it as UTF-8"


class TextStream:
    """Turns bytes into text piece by piece."""

    def __init__(self, max_unpacked_bytes: int = MAX_UNPACKED_BYTES) -> None:
        self.names: list[str] = []
        """How the file was packed and encoded, where it was not plain UTF-8."""
        self._max_unpacked = max_unpacked_bytes
        self._unpacked_bytes = 0
        self._bytes = _Headed(self._plain_or_packed)
        self._text = _Headed(self._utf8_or_utf16)
        self._unpacker: Unpacker | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield UTF-8, which is not checked; raises `Invalid` for a file that cannot be unpacked or converted."""
        for raw in self._bytes.feed(piece):
            for unpacked in self._unpack(raw):
                for text in self._text.feed(unpacked):
                    yield self._decode(text)

    def end(self) -> Iterator[bytes]:
        """Yield what was held back; raises `Invalid` where the file ends too early."""
        for raw in self._bytes.end():
            for unpacked in self._unpack(raw):
                for text in self._text.feed(unpacked):
                    yield self._decode(text)
        if self._unpacker:
            self._unpacker.end()
        for text in self._text.end():
            yield self._decode(text)
        yield self._decode(b"", final=True)

    def _plain_or_packed(self, head: bytes) -> bytes:
        self._unpacker = unpacker_of(head)
        if self._unpacker:
            self.names.append(self._unpacker.name)
        return head

    def _unpack(self, raw: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield raw
            return
        for piece in self._unpacker.feed(raw):
            self._unpacked_bytes += len(piece)
            if self._unpacked_bytes > self._max_unpacked:
                most = f"{self._max_unpacked >> 20} MiB" if self._max_unpacked >> 20 else f"{self._max_unpacked} bytes"
                raise Invalid("dataset_too_large", f"unpacked, the file holds more than {most}; split it")
            yield piece

    def _utf8_or_utf16(self, head: bytes) -> bytes:
        for mark, encoding in _UTF16.items():
            if head.startswith(mark):
                self.names.append("UTF-16")
                self._decoder = codecs.getincrementaldecoder(encoding)()
                return head.removeprefix(mark)
        if b"\0" in head[:2]:
            raise Invalid("dataset_malformed", _UNMARKED_UTF16)
        return head.removeprefix(codecs.BOM_UTF8)

    def _decode(self, text: bytes, *, final: bool = False) -> bytes:
        if self._decoder is None:
            return text
        try:
            return self._decoder.decode(text, final).encode()
        except UnicodeDecodeError as error:
            raise Invalid(
                "dataset_malformed", "the file is not UTF-16 throughout, as its mark says; save it as UTF-8"
            ) from error


class _Headed:
    """Holds back the first bytes until they tell what the rest is."""

    def __init__(self, tell: Callable[[bytes], bytes]) -> None:
        self._tell = tell
        self._head = b""
        self._is_told = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if self._is_told:
            yield piece
            return
        self._head += piece
        if len(self._head) >= HEAD_BYTES:
            yield from self.end()

    def end(self) -> Iterator[bytes]:
        if not self._is_told:
            self._is_told = True
            yield self._tell(self._head)
