"""`/v1/templates`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse

from services.api.http.auth import Admin, Caller, ClientsDep
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.templates import PromptTemplate

router = APIRouter(prefix="/v1/templates", tags=["templates"], route_class=KeyedRoute)
PathName = Annotated[str, Path(max_length=32)]


@router.post("", status_code=201)
async def add(template: PromptTemplate, clients: ClientsDep, caller: Admin, once: OnceDep) -> JSONResponse:
    """Add a named prompt template: the frames of turns, or a chat template in Jinja."""

    async def work() -> Answer:
        await asyncio.to_thread(clients.registry.templates.add, caller.tenant_id, template)
        return Answer(201, view(template), {"Location": f"/v1/templates/{template.name}"})

    return await once(template.model_dump(mode="json", exclude_defaults=True), work)


@router.get("")
async def list_templates(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """List all templates: those that are built in, then those that operators added."""
    added = await asyncio.to_thread(clients.registry.templates.list_added, caller.tenant_id)
    return {"items": [view(template) for template in (*BUILT_IN.values(), *added)]}


@router.get("/{name}")
async def show(name: PathName, clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """Show one template with all its fields."""
    return view(await asyncio.to_thread(clients.registry.templates.get, caller.tenant_id, name))


@router.delete("/{name}", status_code=204)
async def remove(name: PathName, clients: ClientsDep, caller: Admin) -> None:
    """Delete a template that no adapter, release or unfinished training names."""
    await asyncio.to_thread(clients.registry.removal.template, caller.tenant_id, name)


def view(template: PromptTemplate) -> dict[str, Any]:
    """Return a template's digest and its fields that have a value."""
    fields = template.model_dump(mode="json", exclude_defaults=True)
    return {"name": template.name, "digest": template.digest, "built_in": template.name in BUILT_IN, **fields}
