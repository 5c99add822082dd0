"""The webhook endpoints of a tenant: kept in the ledger, their secrets sealed and shown once."""

import asyncio
import json
import secrets
import time
from typing import Any

from services.api.infra.clients import Clients
from services.api.webhooks.delivery import Sender
from services.api.webhooks.schemas import CreateWebhook, UpdateWebhook
from services.api.webhooks.signing import body_of, new_secret
from shared.contracts.webhooks import OLD_SECRET_SECONDS
from shared.errors import Denied, Invalid, Unavailable
from shared.ledger import calls
from shared.ledger.calls.webhooks import Fields, no_webhook
from shared.security.outbound import InnerHosts, check_host
from shared.security.sealed import Sealed
from shared.settings import Settings

View = dict[str, Any]
_LOOK_UP_SECONDS = 5.0


async def create(clients: Clients, tenant_id: str, wanted: CreateWebhook) -> View:
    """Add an endpoint; the answer alone shows its secret; raises `Invalid` for a URL that is not called, `Conflict`."""
    secret = new_secret()
    fields = {**_with_secret(clients.settings, secret), "events": _events(wanted.event_types)}
    await _check_url(clients.settings, wanted.url)
    endpoint_id = f"we_{secrets.token_hex(12)}"
    fields |= {"url": wanted.url, "name": wanted.name}
    await clients.ledger.do(calls.add_webhook(tenant_id, endpoint_id, fields))
    return view(await endpoint(clients, tenant_id, endpoint_id)) | {"signing_secret": secret}


async def endpoint(clients: Clients, tenant_id: str, endpoint_id: str) -> Fields:
    """Return an endpoint's fields; raises `NotFound`."""
    found = await clients.ledger.do(calls.webhooks(tenant_id, endpoint_id))
    if not found:
        raise no_webhook(endpoint_id)
    return found[0]


async def update(clients: Clients, tenant_id: str, endpoint_id: str, wanted: UpdateWebhook) -> View:
    """Change what is named of an endpoint; raises `NotFound`, `Invalid`."""
    fields = {}
    if wanted.url is not None:
        await _check_url(clients.settings, wanted.url)
        fields["url"] = wanted.url
    if wanted.event_types is not None:
        fields["events"] = _events(wanted.event_types)
    if wanted.name is not None:
        fields["name"] = wanted.name
    if wanted.enabled is not None:
        fields["enabled"] = "1" if wanted.enabled else "0"
    await clients.ledger.do(calls.change_webhook(tenant_id, endpoint_id, fields))
    return view(await endpoint(clients, tenant_id, endpoint_id))


async def rotate(clients: Clients, tenant_id: str, endpoint_id: str, *, keep_old: bool) -> View:
    """Give an endpoint a new secret; a kept old one signs beside it for a day; raises `NotFound`, `Conflict`."""
    old = await endpoint(clients, tenant_id, endpoint_id)
    secret = new_secret()
    until = time.time() + OLD_SECRET_SECONDS if keep_old else 0
    fields = _with_secret(clients.settings, secret) | {"old_secret": old["secret"], "old_secret_until": str(until)}
    await clients.ledger.do(calls.change_webhook(tenant_id, endpoint_id, fields, secret=old["secret"]))
    return view(await endpoint(clients, tenant_id, endpoint_id)) | {"signing_secret": secret}


async def send_test(clients: Clients, tenant_id: str, endpoint_id: str, event: str) -> View:
    """Send an example of an event at once; raises `NotFound`, and `Unavailable` where nobody answers."""
    found = await endpoint(clients, tenant_id, endpoint_id)
    event_id = f"evt_{secrets.token_hex(12)}"
    body = body_of(event_id, event, time.time() * 1000, {"id": "test"})
    try:
        status = await Sender(clients.settings).send(found, event_id, body)
    except Denied as error:
        raise _refused(error) from error
    return {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint_id,
        "event_type": event,
        "status_code": status,
        "success": True,
    }


async def _check_url(settings: Settings, url: str) -> None:
    """Raise `Invalid` for a URL that would not be called. Each call checks it again: a name may change its mind."""
    try:
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            await check_host(url, InnerHosts.of(settings.webhook_inner_hosts))
    except (Denied, Unavailable) as error:
        raise _refused(error) from error
    except TimeoutError as error:
        raise Unavailable("address_unknown", "the look-up of the URL's name takes too long; try again") from error


def _refused(error: Denied | Unavailable) -> Invalid:
    return Invalid(error.code, error.detail)


def _with_secret(settings: Settings, secret: str) -> dict[str, str]:
    sealed = Sealed(settings.webhook_key.get_secret_value()).seal(secret)
    return {"secret": sealed, "secret_hint": f"whsec_...{secret[-4:]}"}


def _events(names: list[str]) -> str:
    """The form in which the ledger finds a name: each between blanks."""
    return f" {' '.join(dict.fromkeys(names))} "


def view(found: Fields) -> View:
    """Return an endpoint in OpenAI's form, and how it fares."""
    return {
        "id": found["id"],
        "object": "webhook_endpoint",
        "name": found["name"],
        "url": found["url"],
        "event_types": found["events"].split(),
        "created_at": _seconds(found["created"]),
        "updated_at": _seconds(found["updated"]),
        "signing_secret_hint": found["secret_hint"],
        "enabled": found["enabled"] == "1",
        "disabled_at": _seconds(found.get("disabled_at")),
        "disabled_reason": found.get("disabled_reason"),
        "failing_since": _seconds(found.get("failing_since")),
        "waiting": int(found["waiting"]),
        "dropped": int(found["dropped"]),
    }


def delivery_view(found: Fields) -> View:
    """Return a delivery with how its last try went."""
    is_waiting = found["state"] == "waiting"
    return {
        "id": found["id"],
        "object": "webhook_delivery",
        "event_type": found["type"],
        "created_at": _seconds(found["created"]),
        "state": found["state"],
        "attempts": int(found["attempts"]),
        "status_code": int(found.get("status", 0)) or None,
        "error": found.get("error") or None,
        "tried_at": _seconds(found.get("tried")),
        "next_try_at": _seconds(found["due"]) if is_waiting else None,
        "data": json.loads(found["data"]),
    }


def _seconds(at_ms: str | None) -> int | None:
    return int(float(at_ms) / 1000) if at_ms else None
