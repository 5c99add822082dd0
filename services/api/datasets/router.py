"""`/v1/datasets`."""

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

from services.api.datasets.service import add_dataset
from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import PathId
from shared.contracts.manifests import DatasetManifest
from shared.errors import Invalid

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=KeyedRoute)
_BODY = {
    "requestBody": {
        "required": True,
        "description": "JSON lines of {input, instruction?, output?, label?}, as they are or as the form field `file`",
        "content": {
            "application/jsonl": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "additionalProperties": False,
                }
            },
        },
    }
}


@router.post("", status_code=201, response_model=DatasetManifest, openapi_extra=_BODY)
async def upload(
    request: Request,
    clients: ClientsDep,
    caller: Trainer,
    once: OnceDep,
    name: Annotated[str, Query(min_length=1, max_length=64)],
) -> JSONResponse:
    """Check rows line by line and store them; equal rows give the same data set."""
    data = await read(request)

    async def work() -> Answer:
        manifest = await add_dataset(clients, caller.tenant_id, name, data)
        return Answer(201, manifest.model_dump(mode="json"), {"Location": f"/v1/datasets/{manifest.id}"})

    return await once({"name": name, "sha256": hashlib.sha256(data).hexdigest()}, work)


async def read(request: Request) -> bytes:
    """Return the rows, from the body or from the field `file` of a form; raises `Invalid`."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid("file_missing", "the form has no file; send the rows as its field `file`")
        return await file.read()


@router.get("")
async def list_datasets(clients: ClientsDep, caller: TrainingReader) -> dict[str, Any]:
    """List all data sets, oldest first."""
    found = await asyncio.to_thread(clients.registry.datasets.list_all, caller.tenant_id)
    return {"items": [manifest.model_dump(mode="json") for manifest in found]}


@router.get("/{dataset_id}")
async def show(dataset_id: PathId, clients: ClientsDep, caller: TrainingReader) -> DatasetManifest:
    """Show one data set, by id or by name (the newest of that name)."""
    return await asyncio.to_thread(clients.registry.datasets.get, caller.tenant_id, dataset_id)
