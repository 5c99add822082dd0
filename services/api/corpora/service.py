"""Uploads of corpora: each body is one file, written to a disk with its digest as it arrives, then stored."""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from fastapi import Request

from services.api.infra.clients import Clients
from services.api.infra.pieces import streamed
from services.api.infra.stored import check_room
from shared.contracts.corpora import CorpusFile, CorpusManifest, check_corpus_name, check_file_name, format_of
from shared.errors import Conflict, Invalid, NotFound
from shared.registry.corpora import named_file


class Received(NamedTuple):
    """A file that has arrived."""

    file: CorpusFile
    path: Path


@contextlib.asynccontextmanager
async def received(request: Request, name: str, file_name: str) -> AsyncIterator[Received]:
    """Read a body, which is deleted at the end of the block; raises `Invalid`, of names before anything is read."""
    check_corpus_name(name)
    format_of(check_file_name(file_name))
    digest, size_bytes = hashlib.sha256(), 0
    with tempfile.TemporaryDirectory(prefix="signalbox-upload-") as folder:
        path = Path(folder) / "file"
        with path.open("wb") as out:
            async for chunk in request.stream():
                digest.update(chunk)
                size_bytes += len(chunk)
                await asyncio.to_thread(out.write, chunk)
        if not size_bytes:
            raise Invalid("file_empty", f"{file_name!r} has no bytes: send the file's content as the body")
        yield Received(CorpusFile(name=file_name, sha256=digest.hexdigest(), size_bytes=size_bytes), path)


def store(clients: Clients, tenant_id: str, name: str, found: Received) -> CorpusManifest:
    """Store a file in its corpus; raises `Conflict` where that is cleaned or being cleaned; blocking."""
    corpora = clients.registry.corpora
    with contextlib.suppress(NotFound):
        known = corpora.get(tenant_id, name)
        if job := clients.registry.removal.training_of(tenant_id, known.id):
            raise Conflict(
                "corpus_closed",
                f"training {job.id} works on corpus {name!r}: wait for its end, or add the file under another name",
            )
    check_room(clients, tenant_id, found.file.sha256, found.file.size_bytes)
    return corpora.add_file(tenant_id, name, found.file, found.path)


async def content(
    clients: Clients, tenant_id: str, ref: str, file_name: str
) -> tuple[CorpusFile, AsyncIterator[bytes]]:
    """Return a file of a corpus and its content piece by piece; raises `NotFound`, `Invalid`, `Unavailable`."""
    manifest = await asyncio.to_thread(clients.registry.corpora.get, tenant_id, ref)
    file = named_file(manifest, file_name)
    return file, await streamed(clients.registry.corpora.pieces(manifest, file))
