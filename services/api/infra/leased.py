"""Takes work under leases of the ledger and does it side by side: rollouts, batches, the following of logs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import redis
import structlog

from services.api.infra.tasks import end
from shared.errors import SignalboxError

log = structlog.get_logger()
_LOOK_SECONDS = 0.5


class Work(Protocol):
    """What was taken under a lease."""

    @property
    def named(self) -> dict[str, Any]:
        """What logs say of it."""

    async def run(self) -> None:
        """Work until it is done; an error leaves it to whoever takes it when its lease ends."""

    async def release(self) -> None:
        """Give the lease back, so that another process goes on at once."""


W = TypeVar("W", bound=Work)
AtWork = dict[asyncio.Task[None], W]


async def run_leased(
    kind: str,
    stop: asyncio.Event,
    take: Callable[[], Awaitable[W | None]],
    *,
    stale: type[Exception],
    at_work: AtWork[W] | None = None,
) -> None:
    """Take and do work until `stop`; then give the leases back.

    `stale` is what work raises that another process has now; `at_work` is filled with what is under way.
    """
    at_work = {} if at_work is None else at_work
    while not stop.is_set():
        for task in [task for task in at_work if task.done()]:
            _note_end(kind, task, at_work.pop(task), stale)
        if taken := await _taken(kind, take):
            at_work[asyncio.create_task(taken.run())] = taken
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
    await end(*at_work)
    await asyncio.gather(*(work.release() for work in at_work.values()), return_exceptions=True)


async def _taken(kind: str, take: Callable[[], Awaitable[W | None]]) -> W | None:
    try:
        return await take()
    except (SignalboxError, redis.RedisError) as error:
        log.warning(f"no_{kind}_taken", error=str(error))
        return None


def _note_end(kind: str, task: asyncio.Task[None], work: Work, stale: type[Exception]) -> None:
    if task.cancelled() or not (error := task.exception()):
        return
    if isinstance(error, stale):
        log.warning(f"{kind}_lost", **work.named)
    else:
        log.error(f"{kind}_crashed", **work.named, exc_info=error)  # its lease ends, and it is taken again
