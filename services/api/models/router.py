"""`/v1/models`, in OpenAI's format."""

from typing import Any

from fastapi import APIRouter

from services.api.http.auth import Caller, ClientsDep
from services.api.http.keyed_route import KeyedRoute
from services.api.models.service import models

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=KeyedRoute)


@router.get("")
async def list_models(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """List the base model, `auto`, and every label of the current release."""
    return {"object": "list", "data": await models(clients, caller.tenant_id)}
