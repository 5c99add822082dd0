"""`/v1/files`, in OpenAI's format."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse

from services.api.files import service as files
from services.api.files.schemas import FileDeleted, FileForm, FilePage, FileView
from services.api.http.auth import ClientsDep, FileAuthor, FileReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.http.upload import Upload
from services.api.jobs.schemas import PathId
from services.api.openai.pages import After, Order, page
from shared.contracts.files import Purpose

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=KeyedRoute)
_SCHEMA = FileForm.model_json_schema()
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    **_SCHEMA,
                    "properties": {"file": {"type": "string", "format": "binary"}, **_SCHEMA["properties"]},
                    "required": ["file", *_SCHEMA["required"]],
                }
            }
        },
    }
}
_BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}


@router.post("", response_model=FileView, openapi_extra=_BODY)
async def upload(request: Upload, clients: ClientsDep, caller: FileAuthor, once: OnceDep) -> JSONResponse:
    """Store a file: of the purpose `batch` at most 200 MiB of JSON lines, of others what an upload may have."""
    async with files.received(request, caller) as sent:

        async def work() -> Answer:
            return Answer(200, FileView.of(await files.store(clients, caller, sent)).model_dump())

        return await once({**sent.request, "line": caller.sees}, work)


@router.get("")
async def list_files(
    clients: ClientsDep,
    caller: FileReader,
    purpose: Purpose | None = None,
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Order = "desc",
) -> FilePage:
    """List files, newest first; without the scope `read`, those of the key."""
    found = await asyncio.to_thread(clients.registry.files.list_all, caller.tenant_id, caller.sees)
    views = [FileView.of(one).model_dump() for one in found if purpose in (None, one.purpose)]
    return FilePage.model_validate(page(views if order == "asc" else views[::-1], after, limit))


@router.get("/{file_id}")
async def show(file_id: PathId, clients: ClientsDep, caller: FileReader) -> FileView:
    """Show one file."""
    return FileView.of(await files.find(clients, caller, file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse, responses=_BINARY)
async def content(file_id: PathId, clients: ClientsDep, caller: FileReader) -> StreamingResponse:
    """Return the content of a file, as it was uploaded."""
    file = await files.find(clients, caller, file_id)
    headers = {
        "Content-Length": str(file.size_bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}",
    }
    return StreamingResponse(await files.content(clients, file), 200, headers, "application/octet-stream")


@router.delete("/{file_id}")
async def remove(file_id: PathId, clients: ClientsDep, caller: FileAuthor) -> FileDeleted:
    """Delete a file; a batch that was made of it has a copy of its own."""
    await files.remove(clients, caller, await files.find(clients, caller, file_id))
    return FileDeleted(id=file_id)
