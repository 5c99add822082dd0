"""Server-sent events as OpenAI's clients read them: chunks, comments in pauses, `[DONE]`, or an error."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator

import redis
import structlog

from services.api.http.envelope import envelope
from services.api.http.problems import as_unavailable
from services.api.openai.stream import Chunk
from shared.errors import SignalboxError
from shared.json_text import on_one_line

log = structlog.get_logger()
COMMENT_SECONDS = 15.0
"""Proxies end a connection that is silent for long, many after a minute."""
_COMMENT = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"
_AHEAD = 16
"""Lines that wait for a slow client before the job's own events do."""


async def event_lines(chunks: AsyncGenerator[Chunk]) -> AsyncIterator[bytes]:
    """Yield the lines of the stream; an error ends it in place of `[DONE]`."""
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
    # In a task of its own, which ends in order where the client leaves: the response is torn down at once then.
    writing = asyncio.create_task(_write(chunks, lines))
    try:
        while True:
            try:
                async with asyncio.timeout(COMMENT_SECONDS):
                    line = await lines.get()
            except TimeoutError:
                line = _COMMENT
            if line is None:
                return
            yield line
    finally:
        writing.cancel()


async def _write(chunks: AsyncGenerator[Chunk], lines: asyncio.Queue[bytes | None]) -> None:
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                await lines.put(_line(chunk))
        await lines.put(_DONE)
    except SignalboxError as error:
        await lines.put(_line(envelope(error)))
    except Exception as error:  # noqa: BLE001 - the client would wait for ever
        known = as_unavailable(error) if isinstance(error, redis.RedisError) else None
        await lines.put(_line(envelope(known or _unexpected(error))))
    await lines.put(None)


def _line(data: Chunk) -> bytes:
    return f"data: {on_one_line(json.dumps(data, ensure_ascii=False, separators=(',', ':')))}\n\n".encode()


def _unexpected(error: Exception) -> SignalboxError:
    log.error("stream_crashed", exc_info=error)
    return SignalboxError("internal_error", "the server failed on this stream; look for the cause in its log")
