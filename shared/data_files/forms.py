"""The forms in which files hold records: JSON lines and JSON arrays; `tables` has CSV and TSV."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from shared.data_files.objects import MAX_BYTES, TOO_LONG, parse_object


class Piece(NamedTuple):
    """The bytes of one record, and where it begins."""

    line: int
    raw: bytes
    element: int = 0
    """Its number in an array; 0 in other forms."""

    @property
    def place(self) -> str:
        """Where its owner finds it."""
        return f"line {self.line}" + (f", element {self.element}" if self.element else "")


class Unreadable(ValueError):
    """From this line on, nothing can be told apart."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Form(Protocol):
    """Cuts text into records as it arrives, and reads one."""

    name: str

    def feed(self, text: bytes) -> Iterator[Piece]:
        """Yield the records that this text completes; raises `Unreadable`."""

    def end(self) -> Iterator[Piece]:
        """Yield the last record; raises `Unreadable` where the file was cut."""

    def fields(self, raw: bytes) -> dict[str, Any] | None:
        """Read one record, None for a blank one; raises `ValueError` with the reason."""


_OVER_LINES = "not JSON: an object over several lines; write each on one line (`jq -c . FILE` does that)"


class JsonLines:
    """One JSON object a line."""

    name = "JSON lines"

    def __init__(self) -> None:
        self._rest = b""
        self._line = 0

    def feed(self, text: bytes) -> Iterator[Piece]:
        """Yield the lines that this text completes, their ends kept; a line that is too long is cut."""
        lines = (self._rest + text).splitlines(keepends=True)
        self._rest = b"" if not lines or lines[-1].endswith(b"\n") else lines.pop()  # a \r may be half of a line's end
        for line in lines:
            yield self._piece(line)
        if len(self._rest) > MAX_BYTES:
            yield self._piece(self._rest[: MAX_BYTES + 1])

    def end(self) -> Iterator[Piece]:
        """Yield a last line without an end."""
        if self._rest:
            yield self._piece(self._rest)

    def fields(self, raw: bytes) -> dict[str, Any] | None:
        """Read one line."""
        if len(raw) > MAX_BYTES:
            raise ValueError(TOO_LONG)
        line = raw.strip()
        if line == b"{":
            raise ValueError(_OVER_LINES)
        return parse_object(line) if line else None

    def _piece(self, line: bytes) -> Piece:
        self._line += 1
        return Piece(self._line, line)


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
"""A whole text, a quote that opens one that is not whole yet, or a sign of structure."""


class JsonArray:
    """The objects of one JSON array."""

    name = "JSON array"

    def __init__(self) -> None:
        self._rest = b""
        """From the end of the last element on."""
        self._at = 0
        """How far of it is scanned."""
        self._depth = -1
        """-1 before the array, 0 between its elements."""
        self._is_closed = False
        self._line, self._element = 1, 0

    def feed(self, text: bytes) -> Iterator[Piece]:
        """Yield the elements that this text completes."""
        self._rest += text
        begin, scanned = 0, len(self._rest)
        for token in () if self._is_closed else _TOKEN.finditer(self._rest, self._at):
            sign = token.group()
            if sign == b'"':
                scanned = token.start()
                break
            if self._is_end(sign):
                yield from self._piece(self._rest[begin : token.start()])
                begin = token.end()
                self._is_closed = sign == b"]"
            if self._is_closed:
                break
        self._rest, self._at = self._rest[begin:], max(0, scanned - begin)
        self._check()

    def end(self) -> Iterator[Piece]:
        """Raise `Unreadable` where the array is not closed."""
        if not self._is_closed:
            raise Unreadable(self._line, "the array does not end: the file was cut; write it again, whole")
        yield from ()

    def fields(self, raw: bytes) -> dict[str, Any] | None:
        """Read one element."""
        return parse_object(raw)

    def _is_end(self, sign: bytes) -> bool:
        """Whether an element may begin or end here; keeps the depth."""
        if sign in (b"[", b"{"):
            self._depth += 1
            return self._depth == 0
        if sign in (b"]", b"}") and self._depth > 0:
            self._depth -= 1
            return False
        return self._depth == 0 and sign in (b",", b"]")

    def _piece(self, raw: bytes) -> Iterator[Piece]:
        element = raw.strip()
        if element:
            self._element += 1
            line = self._line + raw[: len(raw) - len(raw.lstrip())].count(b"\n")
            yield Piece(line, element, self._element)
        self._line += raw.count(b"\n")

    def _check(self) -> None:
        if self._is_closed and self._rest.strip():
            raise Unreadable(self._line, "something stands after the array's end; one file holds one array")
        if len(self._rest) > MAX_BYTES:
            raise Unreadable(self._line, TOO_LONG)
