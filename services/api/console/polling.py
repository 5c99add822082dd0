"""Pages that follow something: their parts are made anew again and again, and sent where they have changed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from fastapi.sse import ServerSentEvent

from services.api.console.sessions import STREAM_SECONDS
from services.api.infra.clients import Clients

EVERY_SECONDS = 1.5


async def polled(clients: Clients, parts: Callable[[], Awaitable[Mapping[str, str]]]) -> AsyncIterator[ServerSentEvent]:
    """Yield each part of a page, by name, as it changes."""
    seen: dict[str, str] = {}
    until = time.monotonic() + STREAM_SECONDS
    while not clients.feed.closed.is_set() and time.monotonic() < until:
        for name, text in (await parts()).items():
            if seen.get(name) != text:
                seen[name] = text
                yield ServerSentEvent(raw_data=text, event=name)
        await asyncio.sleep(EVERY_SECONDS)  # the rate at which the page follows
