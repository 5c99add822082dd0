"""`/v1/webhooks`, in OpenAI's form: its clients know it as `/v1/webhook_endpoints`."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from services.api.http.auth import Admin, ClientsDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Cursor, Limit, PathId
from services.api.openai.pages import After, page
from services.api.webhooks import service
from services.api.webhooks.schemas import (
    CreateWebhook,
    EndpointLimit,
    RotateSecret,
    TestWebhook,
    UpdateWebhook,
)
from shared.contracts.webhooks import EVENTS
from shared.ledger import calls

router = APIRouter(tags=["webhooks"], route_class=KeyedRoute)
event_types = APIRouter(prefix="/v1", tags=["webhooks"], route_class=KeyedRoute)
PREFIX = "/v1/webhooks"
OPENAIS_PREFIX = "/v1/webhook_endpoints"
DeliveryId = Annotated[str, Path(max_length=64)]
View = dict[str, Any]


@router.post("", status_code=201)
async def create(wanted: CreateWebhook, clients: ClientsDep, caller: Admin) -> View:
    """Add an endpoint that is told of events; this answer alone shows its signing secret."""
    return await service.create(clients, caller.tenant_id, wanted)


@router.get("")
async def list_endpoints(clients: ClientsDep, caller: Admin, limit: EndpointLimit = 100, after: After = "") -> View:
    """List endpoints, oldest first."""
    found = await clients.ledger.do(calls.webhooks(caller.tenant_id))
    return page([service.view(one) for one in found], after, limit)


@router.get("/{endpoint_id}")
async def show(endpoint_id: PathId, clients: ClientsDep, caller: Admin) -> View:
    """Show one endpoint, and how it fares."""
    return service.view(await service.endpoint(clients, caller.tenant_id, endpoint_id))


@router.post("/{endpoint_id}")
async def update(endpoint_id: PathId, wanted: UpdateWebhook, clients: ClientsDep, caller: Admin) -> View:
    """Change an endpoint's URL, events or name; disable it, or enable it again."""
    return await service.update(clients, caller.tenant_id, endpoint_id, wanted)


@router.delete("/{endpoint_id}")
async def remove(endpoint_id: PathId, clients: ClientsDep, caller: Admin) -> View:
    """Delete an endpoint with all that waits for it."""
    await clients.ledger.do(calls.remove_webhook(caller.tenant_id, endpoint_id))
    return {"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}


@router.post("/{endpoint_id}/rotate_secret")
async def rotate_secret(
    endpoint_id: PathId, clients: ClientsDep, caller: Admin, body: RotateSecret | None = None
) -> View:
    """Give an endpoint a new signing secret; the old one signs beside it for a day."""
    keep_old = (body or RotateSecret()).keep_old_secret_active_for_24_hours
    return await service.rotate(clients, caller.tenant_id, endpoint_id, keep_old=keep_old)


@router.post("/{endpoint_id}/test")
async def send_test(endpoint_id: PathId, clients: ClientsDep, caller: Admin, body: TestWebhook | None = None) -> View:
    """Send an example at once, and tell what the receiver answered."""
    return await service.send_test(clients, caller.tenant_id, endpoint_id, (body or TestWebhook()).event_type)


@router.get("/{endpoint_id}/deliveries")
async def deliveries(
    endpoint_id: PathId, clients: ClientsDep, caller: Admin, before: Cursor = "", limit: Limit = 50
) -> View:
    """List an endpoint's deliveries, newest first, until they are forgotten."""
    wanted = calls.deliveries(caller.tenant_id, endpoint_id, before=f"({before}" if before else "", limit=limit)
    found, following = await clients.ledger.do(wanted)
    return {"items": [service.delivery_view(one) for one in found], "next": following.removeprefix("(") or None}


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay")
async def replay(endpoint_id: PathId, delivery_id: DeliveryId, clients: ClientsDep, caller: Admin) -> View:
    """Make a delivery again, under the same id."""
    found = await clients.ledger.do(calls.replay_delivery(caller.tenant_id, endpoint_id, delivery_id))
    return service.delivery_view(found)


@event_types.get("/webhook_event_types")
async def list_event_types(caller: Admin) -> View:  # noqa: ARG001 - a key is asked for
    """List the names of all events."""
    return {"object": "list", "data": list(EVENTS)}
