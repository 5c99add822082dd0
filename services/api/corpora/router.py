"""`/v1/corpora`."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from services.api.corpora import service
from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.http.upload import Upload
from services.api.jobs.schemas import PathId
from shared.contracts.corpora import MAX_FILE_NAME_CHARS, CorpusManifest

router = APIRouter(prefix="/v1/corpora", tags=["corpora"], route_class=KeyedRoute)
_FILE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one file: PDF, text, JSON or JSON lines, as its name says",
        "content": {"application/octet-stream": _FILE},
    }
}
_BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
FileName = Annotated[str, Query(min_length=1, max_length=MAX_FILE_NAME_CHARS, description="With its ending")]


class CorpusList(BaseModel):
    """All corpora."""

    items: list[CorpusManifest]


@router.post("", status_code=201, response_model=CorpusManifest, openapi_extra=_BODY)
async def upload(
    request: Upload,
    clients: ClientsDep,
    caller: Trainer,
    once: OnceDep,
    name: Annotated[str, Query(min_length=1, max_length=64)],
    file: FileName,
) -> JSONResponse:
    """Store a file of a corpus: further files join it, one of the same name is replaced, until it is cleaned."""
    async with service.received(request, name, file) as found:

        async def work() -> Answer:
            manifest = await asyncio.to_thread(service.store, clients, caller.tenant_id, name, found)
            return Answer(201, manifest.model_dump(mode="json"), {"Location": f"/v1/corpora/{manifest.id}"})

        return await once({"name": name, "file": file, "sha256": found.file.sha256}, work)


@router.get("")
async def list_corpora(clients: ClientsDep, caller: TrainingReader) -> CorpusList:
    """List all corpora, oldest first."""
    return CorpusList(items=await asyncio.to_thread(clients.registry.corpora.list_all, caller.tenant_id))


@router.get("/{corpus_id}")
async def show(corpus_id: PathId, clients: ClientsDep, caller: TrainingReader) -> CorpusManifest:
    """Show one corpus, by id or by name (the newest of that name)."""
    return await asyncio.to_thread(clients.registry.corpora.get, caller.tenant_id, corpus_id)


@router.get("/{corpus_id}/content", response_class=StreamingResponse, responses=_BINARY)
async def content(
    corpus_id: PathId,
    clients: ClientsDep,
    caller: TrainingReader,
    file: Annotated[str, Query(max_length=MAX_FILE_NAME_CHARS, description="Needed where it has several")] = "",
) -> StreamingResponse:
    """Return a file of a corpus: of a cleaned one its JSON lines."""
    found, pieces = await service.content(clients, caller.tenant_id, corpus_id, file)
    headers = {
        "Content-Length": str(found.size_bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name)}",
    }
    return StreamingResponse(pieces, 200, headers, "application/octet-stream")


@router.delete("/{corpus_id}", status_code=204)
async def remove(corpus_id: PathId, clients: ClientsDep, caller: Trainer) -> None:
    """Delete a corpus that no unfinished training needs; what was cleaned from it stays."""
    await asyncio.to_thread(clients.registry.removal.corpus, caller.tenant_id, corpus_id)
