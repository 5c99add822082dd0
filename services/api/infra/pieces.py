"""Contents that are passed on piece by piece."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from starlette.concurrency import iterate_in_threadpool


async def streamed(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Return the pieces of a content; the first one is read before it returns, so that what is wrong is an answer."""
    first = await asyncio.to_thread(next, pieces, b"")
    return _after(first, pieces)


async def _after(first: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in iterate_in_threadpool(rest):
        yield piece
