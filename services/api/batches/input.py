"""The input of a batch on the local disk: where each of its lines begins, and what is wrong with them."""

import asyncio
import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from services.api.batches.lines import BadLine, LineReader
from shared.contracts.batches import MAX_LINES, LineError

_LINES_AT_ONCE = 20
"""Lines that are checked before other batches get their turn."""
_BOM = b"\xef\xbb\xbf"


class InputFile:
    """The lines of a file that are not blank; `index` finds them."""

    def __init__(self, path: Path, max_line_bytes: int) -> None:
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._starts, self._numbers = array("Q"), array("L")

    def __len__(self) -> int:
        return len(self._starts)

    def index(self) -> None:
        """Find where each line begins, up to one more than a batch may have; blocking."""
        at, number = 0, 0
        with self._path.open("rb") as file:
            while len(self) <= MAX_LINES and (raw := file.readline(self._max_line_bytes)):
                number += 1
                if raw.strip():
                    self._starts.append(at)
                    self._numbers.append(number)
                while not raw.endswith(b"\n") and (rest := file.readline(self._max_line_bytes)):
                    raw = rest  # of a line that is too long: read past it
                at = file.tell()

    def read(self, first: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Yield lines as they stand in the file, with their numbers from 1; one that is too long is cut."""
        with self._path.open("rb") as file:
            for place in range(first, min(first + count, len(self))):
                file.seek(self._starts[place])
                raw = file.readline(self._max_line_bytes + 1)
                yield self._numbers[place], raw.removeprefix(_BOM) if place == 0 else raw

    def number(self, place: int) -> int:
        """Return the number of a line, from 1, by its place among those that are not blank."""
        return self._numbers[place]


class Checked(NamedTuple):
    """Everything that is wrong with an input, and the model that all its lines name."""

    errors: list[LineError]
    model: str | None


async def check(input_file: InputFile, reader: LineReader, max_line_bytes: int) -> Checked:
    """Read every line; raises `Unavailable` where that cannot be done now."""
    if of_file := _of_file(input_file):
        return Checked([of_file], None)
    errors: list[LineError] = []
    first_with: dict[bytes, int] = {}
    models: set[str] = set()
    for done, (number, raw) in enumerate(input_file.read(0, len(input_file)), 1):
        if done % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        if len(raw) > max_line_bytes:
            errors.append(_too_long(number, max_line_bytes))
            continue
        custom_id = ""
        try:
            line = await reader.read(number, raw)
            custom_id = line.custom_id
            models.add(line.asked.model)
        except BadLine as bad:
            errors += bad.errors
            custom_id = bad.custom_id
        if custom_id and (earlier := first_with.setdefault(_short(custom_id), number)) != number:
            errors.append(_doubled(number, custom_id, earlier))
    return Checked(errors, models.pop() if len(models) == 1 else None)


def _of_file(input_file: InputFile) -> LineError | None:
    if not len(input_file):
        return LineError(code="empty_file", message="the file has no line: write one request a line")
    if len(input_file) > MAX_LINES:
        detail = f"the file has more than {MAX_LINES} requests: split it"
        return LineError(code="too_many_tasks", message=detail, line=input_file.number(MAX_LINES))
    return None


def _too_long(number: int, max_line_bytes: int) -> LineError:
    detail = f"this line has more than {max_line_bytes} bytes, which no request may have: shorten it"
    return LineError(code="line_too_long", message=detail, line=number)


def _doubled(number: int, custom_id: str, earlier: int) -> LineError:
    detail = f"line {earlier} has the custom_id {custom_id[:64]!r}, too: give each line its own"
    return LineError(code="duplicate_custom_id", message=detail, line=number, param="custom_id")


def _short(custom_id: str) -> bytes:
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
