"""`/v1/models`, in OpenAI's format, `/v1/aliases`, and `/v1/base-models`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import StringConstraints

from services.api.http.auth import Caller, ClientsDep, Promoter
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Request
from services.api.models import service
from shared.contracts.aliases import ModelAlias

router = APIRouter(prefix="/v1", tags=["models"], route_class=KeyedRoute)
Name = Annotated[str, StringConstraints(max_length=128, pattern=r"^[!-~]+$")]
PathName = Annotated[str, Path(max_length=256)]
PathPin = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-z]+$")]


class AliasRequest(Request):
    """Another name for a model: printable signs without blanks."""

    alias: Name
    model: Name
    """`auto`, `base`, a label, `label@n` or a digest of the current release."""


@router.get("/models")
async def list_models(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """List exactly what may be named: base model, `auto`, labels, adapters' versions, aliases."""
    return {"object": "list", "data": await service.models(clients, caller.tenant_id)}


@router.get("/models/{name:path}")
async def show(name: PathName, clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """Show one model, by its name, its digest or an alias."""
    return await service.model(clients, caller.tenant_id, name)


@router.get("/base-models/{pin}")
async def show_base(pin: PathPin, clients: ClientsDep, _: Caller) -> dict[str, Any]:
    """Show a base model by its pin: what it is, its linear layers (out, in), and what its weights take."""
    manifest = await asyncio.to_thread(clients.registry.base_models.get, pin)
    return manifest.model_dump(mode="json", exclude={"control_tokens"})


@router.put("/aliases")
async def set_alias(request: AliasRequest, clients: ClientsDep, caller: Promoter) -> dict[str, Any]:
    """Map a name to a model, so that code which asks for somebody else's runs unchanged."""
    alias = ModelAlias(tenant_id=caller.tenant_id, name=request.alias, model=request.model, key=caller.id)
    await service.set_alias(clients, alias)
    return _view(alias)


@router.get("/aliases")
async def list_aliases(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """List the aliases, those among them whose model the current release lacks, too."""
    found = await asyncio.to_thread(clients.registry.aliases.list_all, caller.tenant_id)
    return {"items": [_view(alias) for alias in found]}


@router.delete("/aliases/{name:path}", status_code=204)
async def remove_alias(name: PathName, clients: ClientsDep, caller: Promoter) -> None:
    """Remove an alias."""
    await asyncio.to_thread(clients.registry.aliases.remove, caller.tenant_id, name)


def _view(alias: ModelAlias) -> dict[str, Any]:
    return {"alias": alias.name, "model": alias.model, "key": alias.key or None, "created_at": alias.created_at}
