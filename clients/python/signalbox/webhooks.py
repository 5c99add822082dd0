"""Calls about webhooks; `standardwebhooks` or `openai` verifies at the receiver what is sent."""

from collections.abc import Sequence
from typing import Any

from signalbox.call import Call, given, items
from signalbox.requests import Request
from signalbox.results import Delivery, Webhook

_PATH = "/v1/webhooks"


def webhooks() -> Call[list[Webhook]]:
    """All webhook endpoints, oldest first."""
    return Call(Request("GET", _PATH), lambda raw: [Webhook.from_dict(item) for item in raw["data"]])


def webhook(endpoint_id: str) -> Call[Webhook]:
    """One webhook endpoint, and how it fares."""
    return Call(Request("GET", f"{_PATH}/{endpoint_id}"), Webhook.from_dict)


def create_webhook(url: str, events: Sequence[str] = ("*",), *, name: str = "") -> Call[Webhook]:
    """Add an endpoint for `events` (`job.succeeded`, `job.*`, `*`); only this answer has its `signing_secret`."""
    body = {"url": url, "event_types": list(events), "name": name}
    return Call(Request("POST", _PATH, json=body), Webhook.from_dict)


def update_webhook(
    endpoint_id: str,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    name: str | None = None,
    enabled: bool | None = None,
) -> Call[Webhook]:
    """Change what is given of an endpoint; one that is disabled is told of nothing new."""
    wanted = None if events is None else list(events)
    body = given({"url": url, "event_types": wanted, "name": name, "enabled": enabled})
    return Call(Request("POST", f"{_PATH}/{endpoint_id}", json=body), Webhook.from_dict)


def delete_webhook(endpoint_id: str) -> Call[None]:
    """Delete an endpoint with all that waits for it."""
    return Call(Request("DELETE", f"{_PATH}/{endpoint_id}"), lambda _: None)


def rotate_webhook_secret(endpoint_id: str, *, keep_old: bool = True) -> Call[Webhook]:
    """Give an endpoint a new `signing_secret`; the old one signs beside it for a day, unless it is not kept."""
    body = {"keep_old_secret_active_for_24_hours": keep_old}
    return Call(Request("POST", f"{_PATH}/{endpoint_id}/rotate_secret", json=body), Webhook.from_dict)


def try_webhook(endpoint_id: str, *, event: str | None = None) -> Call[dict[str, Any]]:
    """Send an example at once; `status_code` is what the receiver answered."""
    return Call(Request("POST", f"{_PATH}/{endpoint_id}/test", json=given({"event_type": event})), dict)


def webhook_deliveries(endpoint_id: str, *, before: str = "", limit: int = 50) -> Call[list[Delivery]]:
    """An endpoint's deliveries, newest first."""
    request = Request("GET", f"{_PATH}/{endpoint_id}/deliveries", params={"before": before or None, "limit": limit})
    return Call(request, items(Delivery))


def replay_delivery(endpoint_id: str, delivery_id: str) -> Call[Delivery]:
    """Make a delivery again, under the same id."""
    return Call(Request("POST", f"{_PATH}/{endpoint_id}/deliveries/{delivery_id}/replay"), Delivery.from_dict)
