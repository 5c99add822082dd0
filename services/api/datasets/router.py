"""`/v1/datasets`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from services.api.datasets.options import MAX_COLUMNS_CHARS, AcceptLabels, Columns, ReadingOptions
from services.api.datasets.schemas import DatasetCheck, SourcePage, StoredDataset
from services.api.datasets.service import received
from services.api.feedback import service as feedback
from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.http.upload import Upload
from services.api.infra.base_models import framed_template
from services.api.jobs.schemas import Limit, PathId
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.rows import MAX_ROWS
from shared.data_files.preview import Preview
from shared.registry.datasets import FEEDBACK_DATASET
from shared.security.api_keys import Scope

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=KeyedRoute)
_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "Rows as they are or as the form field `file`: JSON lines or a JSON array of {input, "
        "instruction?, output?, label?}, `messages`, sharegpt, prompt and completion, question and answer; CSV or TSV; "
        "also packed by gzip or zstd. A form may hold `columns` and `accept_labels`, too",
        "content": {
            "application/jsonl": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": _FILE,
                        "columns": {"type": "string", "maxLength": MAX_COLUMNS_CHARS},
                        "accept_labels": {"type": "boolean"},
                    },
                    "additionalProperties": False,
                }
            },
        },
    }
}


@router.post("", status_code=201, response_model=StoredDataset, openapi_extra=_BODY)
async def upload(
    request: Upload,
    clients: ClientsDep,
    caller: Trainer,
    once: OnceDep,
    name: Annotated[str, Query(min_length=1, max_length=64)],
    columns: Columns = "",
    accept_labels: AcceptLabels = False,
) -> JSONResponse:
    """Check rows line by line and store them; equal rows give the same data set."""
    options = ReadingOptions(columns, accept_labels)
    async with received(request, options, clients.settings.max_upload_bytes) as rows:

        async def work() -> Answer:
            manifest = await rows.store(clients, caller.tenant_id, name)
            body = {**manifest.model_dump(mode="json"), **rows.said}
            return Answer(201, body, {"Location": f"/v1/datasets/{manifest.id}"})

        return await once({"name": name, **rows.request}, work)


@router.post("/check", openapi_extra=_BODY)
async def check(
    request: Upload,
    clients: ClientsDep,
    caller: Trainer,
    columns: Columns = "",
    accept_labels: AcceptLabels = False,
    template: Annotated[
        str, Query(max_length=64, description="Of the rows that are shown; by default the base model's usual one")
    ] = "",
) -> DatasetCheck:
    """Check rows as an upload does and show what they would train; nothing is stored."""
    options = ReadingOptions(columns, accept_labels)
    preview = Preview(template or await framed_template(clients, caller.tenant_id))
    async with received(request, options, clients.settings.max_upload_bytes, preview) as rows:
        return DatasetCheck.model_validate(rows.check())


@router.get("")
async def list_datasets(clients: ClientsDep, caller: TrainingReader) -> dict[str, Any]:
    """List all data sets, oldest first."""
    found = await asyncio.to_thread(clients.registry.datasets.list_all, caller.tenant_id)
    return {"items": [manifest.model_dump(mode="json") for manifest in found]}


@router.get("/{dataset_id}")
async def show(dataset_id: PathId, clients: ClientsDep, caller: TrainingReader) -> DatasetManifest:
    """Show one data set, by id or by name (the newest of that name)."""
    return await asyncio.to_thread(clients.registry.datasets.get, caller.tenant_id, dataset_id)


@router.get("/{dataset_id}/sources")
async def sources(
    dataset_id: PathId,
    clients: ClientsDep,
    caller: TrainingReader,
    after: Annotated[int, Query(ge=0, le=MAX_ROWS, description="Rows to pass over")] = 0,
    limit: Limit = 50,
) -> SourcePage:
    """Say where the rows of a data set made from feedback come from, in the order of the rows."""
    found = await feedback.sources(clients, caller, dataset_id)
    return SourcePage(items=found[after : after + limit], next=after + limit if len(found) > after + limit else None)


@router.delete("/{dataset_id}", status_code=204)
async def remove(dataset_id: PathId, clients: ClientsDep, caller: Trainer) -> None:
    """Delete a data set under all its names; `feedback`, with all that it is made of, asks for `review` too."""
    if dataset_id == FEEDBACK_DATASET:
        caller.check(Scope.REVIEW)
        await asyncio.to_thread(clients.registry.removal.feedback, caller.tenant_id)
    else:
        await asyncio.to_thread(clients.registry.removal.dataset, caller.tenant_id, dataset_id)
