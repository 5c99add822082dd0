"""`/v1/datasets`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from services.api.datasets.service import received
from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.http.upload import Upload
from services.api.jobs.schemas import PathId
from shared.contracts.manifests import DatasetManifest
from shared.registry.datasets import FEEDBACK_DATASET
from shared.security.api_keys import Scope

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
    request: Upload,
    clients: ClientsDep,
    caller: Trainer,
    once: OnceDep,
    name: Annotated[str, Query(min_length=1, max_length=64)],
) -> JSONResponse:
    """Check rows line by line and store them; equal rows give the same data set."""
    async with received(request) as rows:

        async def work() -> Answer:
            manifest = await rows.store(clients, caller.tenant_id, name)
            return Answer(201, manifest.model_dump(mode="json"), {"Location": f"/v1/datasets/{manifest.id}"})

        return await once({"name": name, "sha256": rows.sha256}, work)


@router.get("")
async def list_datasets(clients: ClientsDep, caller: TrainingReader) -> dict[str, Any]:
    """List all data sets, oldest first."""
    found = await asyncio.to_thread(clients.registry.datasets.list_all, caller.tenant_id)
    return {"items": [manifest.model_dump(mode="json") for manifest in found]}


@router.get("/{dataset_id}")
async def show(dataset_id: PathId, clients: ClientsDep, caller: TrainingReader) -> DatasetManifest:
    """Show one data set, by id or by name (the newest of that name)."""
    return await asyncio.to_thread(clients.registry.datasets.get, caller.tenant_id, dataset_id)


@router.delete("/{dataset_id}", status_code=204)
async def remove(dataset_id: PathId, clients: ClientsDep, caller: Trainer) -> None:
    """Delete a data set under all its names; `feedback`, with all that it is made of, asks for `review` too."""
    if dataset_id == FEEDBACK_DATASET:
        caller.check(Scope.REVIEW)
        await asyncio.to_thread(clients.registry.removal.feedback, caller.tenant_id)
    else:
        await asyncio.to_thread(clients.registry.removal.dataset, caller.tenant_id, dataset_id)
