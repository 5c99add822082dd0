"""The documents of one file: pages of a PDF, blocks of a text, objects of JSON, each with where it comes from."""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from services.trainer.corpus.encodings import Undecodable, encoding_of
from services.trainer.corpus.line_correction import NO_KEYS, Keys, repeated_edges
from services.trainer.corpus.pdf import PdfUnreadable, pages_of, spool_pages
from shared.contracts.corpora import CorpusFile, format_of
from shared.data_files.forms import JsonArray, JsonLines, Piece, Unreadable
from shared.data_files.objects import MAX_BYTES
from shared.errors import Invalid

BLOCK_CHARS, MAX_BLOCK_CHARS = 4000, 40_000
"""A block of a text ends with the first blank line after so many characters, or with any line after so many more."""
_LINE_CHARS = 1 << 20
_PIECE_BYTES = 1 << 20
_MAX_KEPT, _MAX_KEPT_CHARS = 16, 200
"""Short members of a JSON object beside its text: the law and the article, say."""


class FileUnreadable(ValueError):
    """Why a file, or the rest of it, is not read, and what to do."""


class Document(NamedTuple):
    """A text, where it comes from, and what names the lines that its file repeats on every page."""

    text: str
    source: dict[str, Any]
    page_lines: Keys = NO_KEYS


class Read(NamedTuple):
    """A document with its place among the files of a corpus: a later attempt goes on after it."""

    document: Document
    file: int
    number: int


class Reading(NamedTuple):
    """How files are read."""

    field: str
    encoding: str
    spool: Path
    """Where pages may be spooled."""
    check: Callable[[], None]
    """Raises where the job has to stop."""
    note: Callable[[str], None]
    """Takes what is worth knowing of a file."""


def documents_of(path: Path, file: CorpusFile, reading: Reading) -> Iterator[Document]:
    """Yield the documents of a file that lies at `path`; raises `FileUnreadable`."""
    try:
        kind = format_of(file.name)
        if kind == "pdf":
            yield from _of_pdf(path, file.name, reading)
            return
        encoding = encoding_of(path, reading.encoding)
        if encoding.is_guess:
            reading.note(f"{file.name} was read as {encoding.name}: name its `encoding` where that is another")
        read = _of_text if kind == "text" else _of_json
        yield from read(path, file.name, encoding.name, reading)
    except (Invalid, Undecodable, PdfUnreadable) as error:
        raise FileUnreadable(str(error)) from error


def _of_pdf(path: Path, name: str, reading: Reading) -> Iterator[Document]:
    pages = spool_pages(path, reading.spool, reading.check)
    known = repeated_edges(pages_of(reading.spool))
    empty = 0
    for number, text in enumerate(pages_of(reading.spool), 1):
        empty += not text.strip()
        yield Document(text, {"file": name, "page": number}, known)
    if empty:
        reading.note(f"{name} has no text on {empty} of {pages} pages: OCR them if they hold any")


def _of_text(path: Path, name: str, encoding: str, reading: Reading) -> Iterator[Document]:
    if _has_pages(path):
        known = repeated_edges(text for _, text in _blocks(path, encoding, by_page=True))
        for number, (_, text) in enumerate(_blocks(path, encoding, by_page=True), 1):
            yield Document(text, {"file": name, "page": number}, known)
        return
    for line, text in _blocks(path, encoding, by_page=False):
        reading.check()
        yield Document(text, {"file": name, "line": line})


def _has_pages(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b"\f" in piece for piece in iter(lambda: file.read(_PIECE_BYTES), b""))


def _blocks(path: Path, encoding: str, *, by_page: bool) -> Iterator[tuple[int, str]]:
    """Yield blocks of lines with the number of their first line; a page ends with a form feed."""
    held: list[str] = []
    length, first, number = 0, 1, 0
    for number, line in enumerate(_lines(path, encoding), 1):
        parts = line.split("\f") if by_page else [line]
        for place, part in enumerate(parts):
            held.append(part)
            length += len(part)
            is_end = place < len(parts) - 1 if by_page else length >= BLOCK_CHARS and not part.strip()
            if is_end or length >= MAX_BLOCK_CHARS:
                yield first, "".join(held)
                held, length, first = [], 0, number + 1
    if any(map(str.strip, held)):
        yield first, "".join(held)


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield lines with their ends; one that is longer than a megabyte comes in parts."""
    with path.open(encoding=encoding) as file:
        while line := file.readline(_LINE_CHARS):
            yield line


def _of_json(path: Path, name: str, encoding: str, reading: Reading) -> Iterator[Document]:
    if (whole := _one_object(path, encoding)) is not None:
        yield _document(whole, Piece(1, b""), name, reading.field)
        return
    form: JsonLines | JsonArray | None = None
    try:
        for text in _utf8(path, encoding):
            form = form or (JsonArray() if text.lstrip().startswith(b"[") else JsonLines())
            for piece in form.feed(text):
                yield from _parsed(piece, name, reading)
            reading.check()
        for piece in form.end() if form else ():
            yield from _parsed(piece, name, reading)
    except Unreadable as error:
        raise FileUnreadable(f"line {error.line}: {error}") from error


def _one_object(path: Path, encoding: str) -> Any:
    """Return the object that a small file is, written over several lines; None for any other file."""
    if path.stat().st_size > MAX_BYTES:
        return None
    try:
        found = json.loads(path.read_text(encoding))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _utf8(path: Path, encoding: str) -> Iterator[bytes]:
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield decoder.decode(piece).encode() if decoder else piece
    if decoder:
        yield decoder.decode(b"", final=True).encode()


def _parsed(piece: Piece, name: str, reading: Reading) -> Iterator[Document]:
    raw = piece.raw.strip()
    if not raw:
        return
    if len(raw) > MAX_BYTES:
        raise FileUnreadable(f"{piece.place} is longer than {MAX_BYTES} bytes: split its text")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FileUnreadable(f"{piece.place} is no JSON ({str(error)[:100]}): write one object a line") from error
    yield _document(value, piece, name, reading.field)


def _document(value: Any, piece: Piece, name: str, field: str) -> Document:
    source: dict[str, Any] = {"file": name, "line": piece.line}
    if piece.element:
        source["element"] = piece.element
    if isinstance(value, str):
        return Document(value, source)
    members = value if isinstance(value, dict) else {}
    text = members.get(field)
    if not isinstance(text, str):
        has = ", ".join(list(members)[:8]) or "none"
        raise FileUnreadable(
            f"{piece.place} has no text in {field!r} (members: {has}): name the one that has by `field`"
        )
    if kept := _kept(members, field):
        source["fields"] = kept
    return Document(text, source)


def _kept(members: Mapping[str, Any], field: str) -> dict[str, Any]:
    short = {
        name: value
        for name, value in members.items()
        if name != field and isinstance(value, str | int | float) and len(str(value)) <= _MAX_KEPT_CHARS
    }
    return dict(list(short.items())[:_MAX_KEPT])
