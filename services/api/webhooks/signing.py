"""What a webhook's receiver gets: a body in OpenAI's form, signed as the Standard Webhooks specification says."""

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from shared.ledger.calls.base import dump

_SECRET_BYTES = 32


def new_secret() -> str:
    """Return a random signing secret."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def body_of(event_id: str, event: str, created_ms: float, data: Any) -> str:
    """Return the body of an event: the same at each try."""
    created = datetime.fromtimestamp(created_ms / 1000, UTC)
    return dump({
        "id": event_id,
        "object": "event",
        "type": event,
        "created_at": int(created.timestamp()),
        "timestamp": created.isoformat().replace("+00:00", "Z"),
        "data": data,
    })  # fmt: skip


def headers_of(event_id: str, body: str, secrets_: Iterable[str], at: datetime) -> dict[str, str]:
    """Return the headers by which a receiver that knows one of the secrets believes the body."""
    from standardwebhooks import Webhook

    return {
        "content-type": "application/json",
        "user-agent": "Signalbox-Webhooks/1",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(event_id, at, body) for secret in secrets_),
    }
