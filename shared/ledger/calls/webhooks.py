"""Webhooks' endpoints and their deliveries (`lua/webhooks.lua`)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from shared.contracts.webhooks import MAX_AGE_SECONDS, MAX_ENDPOINTS, PATIENT_SECONDS
from shared.errors import Conflict, NotFound, SignalboxError
from shared.ledger.calls.base import Call, Reply, never, nothing

Fields = dict[str, Any]
"""A hash of the ledger: texts by name, times in milliseconds."""


class Claimed(NamedTuple):
    """A delivery to make, and its endpoint."""

    endpoint: Fields
    delivery: Fields


def add_webhook(tenant_id: str, endpoint_id: str, fields: Mapping[str, str]) -> Call[None]:
    """Add an endpoint; raises `Conflict` where the tenant has as many as it may."""

    def refused(_: Reply) -> SignalboxError:
        return Conflict(
            "too_many_webhooks", f"there are {MAX_ENDPOINTS} webhook endpoints already: delete one that is not used"
        )

    args = {"tenant_id": tenant_id, "id": endpoint_id, "fields": dict(fields), "most": MAX_ENDPOINTS}
    return Call("add_webhook", args, nothing, refused)


def change_webhook(tenant_id: str, endpoint_id: str, fields: Mapping[str, str], *, secret: str = "") -> Call[None]:
    """Change fields of an endpoint; `enabled` is `1` or `0`; raises `NotFound`.

    Raises `Conflict` where the sealed secret is no longer `secret`; an empty one is not compared.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "moved":
            return Conflict("secret_rotated", f"the secret of {endpoint_id} was rotated meanwhile; try again")
        return no_webhook(endpoint_id)

    args = {"tenant_id": tenant_id, "id": endpoint_id, "fields": dict(fields), "secret": secret}
    return Call("change_webhook", args, nothing, refused)


def remove_webhook(tenant_id: str, endpoint_id: str) -> Call[None]:
    """Remove an endpoint with what waits for it; raises `NotFound`."""
    return Call("remove_webhook", {"tenant_id": tenant_id, "id": endpoint_id}, nothing, _gone(endpoint_id))


def webhooks(tenant_id: str, endpoint_id: str = "") -> Call[list[Fields]]:
    """Return a tenant's endpoints, oldest first, or the one of an id."""

    def read(reply: Reply) -> list[Fields]:
        return sorted(reply["webhooks"] or [], key=lambda one: float(one["created"]))  # Lua writes an empty list as {}

    return Call("webhooks", {"tenant_id": tenant_id, "id": endpoint_id}, read, never)


def deliveries(tenant_id: str, endpoint_id: str, *, before: str, limit: int) -> Call[tuple[list[Fields], str]]:
    """Return a page of an endpoint's deliveries, newest first, and the next page's `before`; raises `NotFound`."""
    args = {"tenant_id": tenant_id, "id": endpoint_id, "before": before or "+inf", "limit": limit}
    return Call("deliveries", args, lambda reply: (list(reply["deliveries"] or []), reply["next"]), _gone(endpoint_id))


def replay_delivery(tenant_id: str, endpoint_id: str, delivery_id: str) -> Call[Fields]:
    """Make a delivery anew, now; raises `NotFound`, and `Conflict` where its endpoint is disabled."""

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "disabled":
            return Conflict("webhook_disabled", f"webhook endpoint {endpoint_id} is disabled: enable it first")
        return NotFound(
            "delivery_not_found",
            f"webhook endpoint {endpoint_id} has no delivery {delivery_id}: list what it has",
        )

    args = {"tenant_id": tenant_id, "id": endpoint_id, "delivery": delivery_id}
    return Call("replay_delivery", args, lambda reply: dict(reply["delivery"]), refused)


def claim_deliveries(
    busy: Mapping[str, int], *, limit: int, at_once: int, endpoints: int, lease_seconds: float
) -> Call[list[Claimed]]:
    """Claim at most `limit` due deliveries of at most `endpoints` endpoints, `at_once` of each.

    `busy` counts by endpoint what the caller has under way. What is not settled in `lease_seconds` is due again.
    """
    args = {
        "busy": dict(busy),
        "limit": limit,
        "at_once": at_once,
        "endpoints": endpoints,
        "lease_ms": lease_seconds * 1000,
        "max_age_ms": MAX_AGE_SECONDS * 1000,
        "patient_ms": PATIENT_SECONDS * 1000,
    }
    return Call("claim_deliveries", args, lambda reply: [Claimed(*one) for one in reply["claimed"] or []], never)


def settle_delivery(
    claimed: Claimed,
    *,
    made: bool,
    status: int,
    error: str,
    pause_seconds: float | None,
    gone: bool,
    keep_seconds: int,
) -> Call[bool]:
    """Note how a try went; returns whether the endpoint is disabled for that.

    `pause_seconds` is None where it is not tried again; what ended is kept for `keep_seconds`.
    """
    args = {
        "id": claimed.endpoint["id"],
        "delivery": claimed.delivery["id"],
        "made": made,
        "status": status,
        "error": error,
        "pause_ms": -1 if pause_seconds is None else pause_seconds * 1000,
        "gone": gone,
        "keep_ms": keep_seconds * 1000,
        "max_age_ms": MAX_AGE_SECONDS * 1000,
    }
    return Call("settle_delivery", args, lambda reply: bool(reply["disabled"]), never)


def _gone(endpoint_id: str) -> Any:
    return lambda _: no_webhook(endpoint_id)


def no_webhook(endpoint_id: str) -> NotFound:
    """Return the error for an endpoint that does not exist or belongs to another tenant."""
    return NotFound("webhook_not_found", f"there is no webhook endpoint {endpoint_id}; `signalbox webhooks list`")
