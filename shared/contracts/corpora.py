"""Corpora: named sets of raw files, or the cleaned JSON lines that a job made of one."""

import hashlib
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.times import utc_now
from shared.errors import Invalid

MAX_FILES = 1000
"""Of one corpus: its manifest, a record of the ledger, names each."""
MAX_FILE_NAME_CHARS = 200
CorpusRef = Annotated[str, Field(min_length=1, max_length=64)]
CorpusName = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
FileFormat = Literal["pdf", "text", "json", "jsonl"]
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_FORMATS: dict[str, FileFormat] = {
    ".pdf": "pdf",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class CorpusFile(_Stored):
    """One file of a corpus; equal bytes are stored once a tenant."""

    name: str
    sha256: str
    size_bytes: int


class ModuleCount(_Stored):
    """What went into a module of the cleaning and what came out of it; bytes are UTF-8 of the texts."""

    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class CorpusManifest(_Stored):
    """A stored corpus: raw files, which further uploads join until it is cleaned, or one file that a job made."""

    tenant_id: str
    id: str
    name: str
    files: tuple[CorpusFile, ...]
    documents: int = 0
    """Of a cleaned corpus: its lines, each a JSON object of `text` and `source`. 0 for raw files."""
    made_from: str = ""
    """Id of the corpus that it was cleaned from."""
    made_by: str = ""
    """Id of the job that made it."""
    modules: dict[str, ModuleCount] = Field(default_factory=dict)
    """Of a cleaned corpus: each module that was on, in its order."""
    created_at: str = Field(default_factory=utc_now)

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    def with_file(self, file: CorpusFile) -> "CorpusManifest":
        """Return a copy that has this file, in place of one of the same name."""
        files = {one.name: one for one in (*self.files, file)}
        return self.model_copy(update={"files": tuple(files[name] for name in sorted(files))})


def corpus_id(seed: str) -> str:
    """Return `cor_` and 24 hex digits that follow from a text that no other corpus has."""
    return f"cor_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"


def check_corpus_name(name: str) -> str:
    """Return a well-formed name of a corpus; raises `Invalid` otherwise."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            "name_malformed",
            f"{name[:80]!r} is no name of a corpus: give 1 to 64 of a-z, 0-9, _ . and -, the first a letter or digit",
        )
    return name


def check_file_name(name: str) -> str:
    """Return the name of a file that has neither folders nor control characters; raises `Invalid`."""
    if not name or name in (".", "..") or len(name) > MAX_FILE_NAME_CHARS or "/" in name or not name.isprintable():
        raise Invalid(
            "file_name_malformed",
            f"{name[:80]!r} names no file: give 1 to {MAX_FILE_NAME_CHARS} printable characters without a slash",
        )
    return name


def format_of(name: str) -> FileFormat:
    """Return how a file of this name is read; raises `Invalid` where its ending is none that is."""
    found = _FORMATS.get(PurePosixPath(name).suffix.lower())
    if found is None:
        raise Invalid(
            "file_format_unknown",
            f"{name!r} ends in none of {', '.join(_FORMATS)}: export it as one of these, then add it again",
        )
    return found
