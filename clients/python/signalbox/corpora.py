"""Calls about corpora: named sets of raw files, and the cleaned JSON lines that a job makes of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from signalbox.call import Call, items, new_key
from signalbox.requests import IDEMPOTENCY_KEY, Request
from signalbox.results import Record
from signalbox.uploads import UPLOAD_SECONDS, read_unpacked


@dataclass(frozen=True, kw_only=True)
class Corpus(Record):
    """One stored corpus; `documents` counts the lines of a cleaned one."""

    id: str
    name: str
    files: list[Mapping[str, Any]] = field(default_factory=list)
    """Name, digest and size of each."""
    documents: int = 0
    made_from: str = ""
    """Id of the corpus that it was cleaned from."""
    made_by: str = ""
    """Id of the job that cleaned it."""
    modules: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Documents and bytes that each module took in and gave out."""
    created_at: str = ""


def add_corpus_file(
    file: Path | str, name: str, *, content: bytes | None = None, idempotency_key: str | None = None
) -> Call[Corpus]:
    """Upload a file of a corpus: PDF, text, JSON or JSON lines, the last three also packed by gzip.

    Further files join the corpus of this name until it is cleaned; one of the same name is replaced. `content` is what
    the file holds where it lies on no disk.
    """
    request = Request(
        "POST",
        "/v1/corpora",
        params={"name": name, "file": Path(file).name.removesuffix(".gz")},
        headers={"Content-Type": "application/octet-stream", IDEMPOTENCY_KEY: idempotency_key or new_key()},
        content=read_unpacked(Path(file)) if content is None else content,
        timeout_seconds=UPLOAD_SECONDS,
    )
    return Call(request, Corpus.from_dict)


def corpora() -> Call[list[Corpus]]:
    """All corpora, oldest first."""
    return Call(Request("GET", "/v1/corpora"), items(Corpus))


def corpus(ref: str) -> Call[Corpus]:
    """One corpus by id, or the newest of a name."""
    return Call(Request("GET", _path(ref)), Corpus.from_dict)


def content_of(ref: str, file: str) -> Request:
    """The request for the content of a corpus' file."""
    params = {"file": file} if file else {}
    return Request("GET", f"{_path(ref)}/content", params=params, timeout_seconds=UPLOAD_SECONDS)


def delete_corpus(ref: str) -> Call[None]:
    """Delete a corpus that no unfinished training needs."""
    return Call(Request("DELETE", _path(ref)), lambda _: None)


def _path(ref: str) -> str:
    return f"/v1/corpora/{quote(ref, safe='')}"
