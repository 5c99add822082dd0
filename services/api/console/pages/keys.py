"""Keys: who may do what, within which limits, and what each has used. No key itself is ever shown, or made, here."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from services.api.console.rendering import page
from services.api.console.sessions import Admin
from services.api.http.auth import ClientsDep
from services.api.infra.tenant_keys import keys_of
from services.api.usage import service as usage
from shared.security.api_keys import Key
from shared.settings import Settings

router = APIRouter(prefix="/keys")
SHOWN = 50


class Row(NamedTuple):
    """A key for the page: its state, its limits, and what its line has used."""

    key: Key
    state: str
    requests_per_minute: int
    tokens_per_minute: int
    used: dict[str, Any]


@router.get("")
async def keys(
    request: Request,
    clients: ClientsDep,
    visitor: Admin,
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> HTMLResponse:
    """Show the page."""
    first, last = usage.days(None, None)
    found, used = await asyncio.gather(
        keys_of(clients, visitor.key.tenant_id), usage.rows(clients, visitor.key, first, last, ("key",))
    )
    shown = rows(found[after : after + SHOWN], used, clients.settings)
    more = {"count": len(found), "after": after, "next": after + SHOWN if len(found) > after + SHOWN else 0}
    return page(request, "keys.html", rows=shown, since=first, mine=visitor.key.id, **more)


def rows(keys: Sequence[Key], used: Sequence[dict[str, Any]], settings: Settings) -> list[Row]:
    """Return the keys with what stands beside them."""
    by_line = {one["key"]: one for one in used}
    return [
        Row(
            key,
            state_of(key),
            settings.requests_per_minute if key.requests_per_minute is None else key.requests_per_minute,
            settings.tokens_per_minute if key.tokens_per_minute is None else key.tokens_per_minute,
            by_line.get(key.line, {}),
        )
        for key in keys
    ]


def state_of(key: Key) -> str:
    """Return whether a key works."""
    if key.revoked_at:
        return "revoked"
    return "expired" if key.seconds_left <= 0 else "valid"
