"""How the bytes of a text file are to be read: by its mark, as UTF-8, or as a detector or the caller says."""

import codecs
from pathlib import Path
from typing import NamedTuple

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PIECE_BYTES = 1 << 20
_SAMPLE_BYTES = 64 << 10
_MIXED = 0.6
"""Of the bytes beyond ASCII, those in whole UTF-8 characters: from here on a file is UTF-8 with something else in it.
Of Chinese in other encodings up to half are, by chance."""
_WESTERN = frozenset("áéíóúüñçàèìòùâêîôûäëïöãõåæøßÁÉÍÓÚÜÑÇÀÈÌÒÙÂÊÎÔÛÄËÏÖÃÕÅÆØ¿¡ºª°§·«»–—“”‘’…€\u00a0\u00ad")  # noqa: RUF001
_OF_WESTERN = 0.95
_TOLD_APART = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1251")
"""What the detector finds; among the encodings of one byte a character it takes one for another."""
_UNSURE = 0.2
"""Share of disorder from which the detector's best guess is none."""


class Encoding(NamedTuple):
    """The name of an encoding, and whether the detector found it."""

    name: str
    is_guess: bool = False


class Undecodable(ValueError):
    """A file that no encoding reads throughout; says from which byte on, and what to do."""


def encoding_of(path: Path, named: str = "") -> Encoding:
    """Return the encoding in which the whole file can be read; raises `Undecodable`."""
    with path.open("rb") as file:
        head = file.read(4)
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    if name := marked or named or _unmarked_utf16(path):
        if (at := _first_wrong(path, name)) >= 0:
            raise Undecodable(f"is not {name} at byte {at}: save it as UTF-8, or name its `encoding`")
        return Encoding(name)
    at = _first_wrong(path, "utf-8")
    return Encoding("utf-8") if at < 0 else _guessed(path, at)


def _guessed(path: Path, at: int) -> Encoding:
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
        file.seek(max(0, at - _SAMPLE_BYTES // 2))
        sample += file.read(_SAMPLE_BYTES)
    whole = share_in_utf8(sample)
    if whole >= _MIXED:
        raise Undecodable(f"is UTF-8 until byte {at} and something else from there on: save all of it as UTF-8")
    if name := detected(sample):
        if (wrong := _first_wrong(path, name)) < 0:
            return Encoding(name, is_guess=True)
        raise Undecodable(f"looks like {name}, and is not at byte {wrong}: save it as UTF-8, or name its `encoding`")
    raise Undecodable(f"is not UTF-8 at byte {at}: save it as UTF-8, or name its `encoding`")


def share_in_utf8(sample: bytes) -> float:
    """Return the share of the bytes beyond ASCII that stand in whole characters of UTF-8."""
    beyond = len(sample.translate(None, bytes(range(128))))
    read = sample.decode("utf-8", "ignore")
    return (len(read.encode()) - sum(sign < "\x80" for sign in read)) / max(beyond, 1)


def detected(sample: bytes) -> str:
    """Return the encoding that the detector takes a sample for; empty where it is not sure."""
    read = sample.decode("cp1252", "replace")
    beyond = [sign for sign in read if not sign.isascii()]
    is_rare = 2 * len(beyond) <= len(read)  # Cyrillic looks like accents alone
    if is_rare and sum(sign in _WESTERN for sign in beyond) >= _OF_WESTERN * len(beyond):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(_TOLD_APART), steps=5, chunk_size=1024).best()
    return str(best.encoding) if best and best.chaos <= _UNSURE else ""


def _first_wrong(path: Path, name: str) -> int:
    """Return the first byte that cannot be read; -1 where all can."""
    try:
        decoder = codecs.getincrementaldecoder(name)()
    except LookupError as error:
        raise Undecodable(f"cannot be read as {name!r}, which is no encoding: name another") from error
    done = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                return done - held + error.start
            done += len(piece)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return done - len(decoder.getstate()[0])
    return -1


def _unmarked_utf16(path: Path) -> str:
    """Return the byte order of a file that has a zero at every other byte, as Latin letters have in UTF-16."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    zeros = [sample[start::2].count(0) for start in (0, 1)]
    half = max(len(sample) // 2, 1)
    if max(zeros) < half / 2 or min(zeros) > half / 10:
        return ""
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
