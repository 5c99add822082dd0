"""`/v1/adapters`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from services.api.adapters import export as exports
from services.api.adapters import retiring
from services.api.adapters import service as uploads
from services.api.http.auth import Caller, ClientsDep, Promoter, Trainer
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.http.upload import Upload
from services.api.jobs.schemas import PathRef, Request, Time
from shared.contracts.manifests import AdapterManifest
from shared.contracts.retirements import Retirement

router = APIRouter(prefix="/v1/adapters", tags=["adapters"], route_class=KeyedRoute)


class RetireRequest(Request):
    """From when on an adapter may not be named."""

    at: Annotated[Time, Field(strict=False)] | None
    """Such as 2026-12-31T00:00:00Z; null takes a retirement back."""


_FILE = {"type": "string", "format": "binary", "description": "zip, tar or tar.gz of one PEFT folder"}
_SCHEMA = uploads.AdapterForm.model_json_schema()
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    **_SCHEMA,
                    "properties": {"file": _FILE, **_SCHEMA["properties"]},
                    "required": ["file", *_SCHEMA["required"]],
                }
            }
        },
    }
}


_TAR: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-tar": {}}}}


@router.post("", status_code=201, openapi_extra=_BODY)
async def upload(request: Upload, clients: ClientsDep, caller: Trainer, once: OnceDep) -> JSONResponse:
    """Check a LoRA adapter against the base model and store it as the label's next version.

    `checks` says how each check of it ended, in the problem of a refusal, too. With `examples`, `check` is the id of
    the training job that finds out its template.
    """
    async with uploads.adapter_upload(request) as sent:

        async def work() -> Answer:
            manifest, checks = await uploads.add_adapter(clients, caller, sent)
            answer = view(manifest) | {"checks": uploads.views(checks)}
            if examples := sent.form.examples:
                answer["check"] = await uploads.queue_check(clients, caller, manifest.ref, examples)
            return Answer(201, answer, {"Location": f"/v1/adapters/{manifest.ref}"})

        return await once({**sent.form.model_dump(), "file": sent.sha256}, work)


@router.get("")
async def list_adapters(
    clients: ClientsDep, caller: Caller, label: Annotated[str, Query(max_length=65)] = ""
) -> dict[str, Any]:
    """List all adapters, ordered by label and version."""
    found = await asyncio.to_thread(clients.registry.adapters.list_all, caller.tenant_id, label)
    dated = {one.ref: one for one in await asyncio.to_thread(clients.registry.retirements.list_all, caller.tenant_id)}
    return {"items": [view(manifest, dated.get(manifest.ref)) for manifest in found]}


@router.get("/{ref}")
async def show(ref: PathRef, clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """Show one adapter, named by `label@n`, by label (its newest version) or by digest."""
    manifest = await asyncio.to_thread(clients.registry.adapters.get, caller.tenant_id, ref)
    return view(manifest, await retiring.date_of(clients, manifest))


@router.get("/{ref}/export", response_class=StreamingResponse, responses=_TAR)
async def export(ref: PathRef, clients: ClientsDep, caller: Trainer) -> StreamingResponse:
    """Send one adapter as a tar of a PEFT folder, with a model card as the hub reads it."""
    manifest = await asyncio.to_thread(clients.registry.adapters.get, caller.tenant_id, ref)
    return (await exports.export(clients, manifest)).response()


@router.post("/{ref}/retire")
async def retire(ref: PathRef, body: RetireRequest, clients: ClientsDep, caller: Promoter) -> dict[str, Any]:
    """Refuse requests that name an adapter from a date on, and warn those that it answers until then.

    Requests to `auto` are answered by what the current release has.
    """
    manifest = await asyncio.to_thread(clients.registry.adapters.get, caller.tenant_id, ref)
    return view(manifest, await retiring.retire(clients, caller, manifest, body.at))


@router.delete("/{ref}", status_code=204)
async def remove(ref: PathRef, clients: ClientsDep, caller: Trainer) -> None:
    """Delete one version, `label@n`, that no release and no unfinished training names."""
    await asyncio.to_thread(clients.registry.removal.adapter, caller.tenant_id, ref)


def view(manifest: AdapterManifest, retirement: Retirement | None = None) -> dict[str, Any]:
    """Return the manifest with its reference, and the date from which on it may not be named."""
    shutdown_date = retirement.at.isoformat() if retirement else None
    return {"ref": manifest.ref, "shutdown_date": shutdown_date, **manifest.model_dump(mode="json")}
