"""Ends tasks that run beside others."""

import asyncio
from typing import Any

_AGAIN_SECONDS = 2.0


async def end(*tasks: asyncio.Task[Any]) -> list[Any]:
    """Cancel tasks until each has ended; returns what they returned or raised.

    One cancel is not enough: before Python 3.12 `asyncio.wait_for`, by which redis-py bounds each write, returns its
    result where a cancel comes at the same moment, and the task goes on as if nobody had cancelled it.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
    return await asyncio.gather(*tasks, return_exceptions=True)
