"""Waits for a job on behalf of a client that holds its connection open."""

import asyncio
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.requests import ClientDisconnect

from services.api.infra.clients import Clients
from services.api.infra.event_feed import Reader
from services.api.openai.stream import Chunk, Chunks
from shared.contracts.jobs import Job
from shared.ledger import calls
from shared.security.api_keys import Key


class Waiting:
    """One client that waits for one job; where it leaves, the job is cancelled, unless a retry may come for it."""

    def __init__(self, clients: Clients, caller: Key, job_id: str, *, is_kept: bool) -> None:
        self._clients = clients
        self._tenant_id = caller.tenant_id
        self._caller = caller
        self.job_id = job_id
        self._is_kept = is_kept
        self._is_told = False

    async def job(self) -> Job:
        """Return the job as it is now."""
        return await self._clients.ledger.do(calls.get(self.job_id, self._tenant_id))

    async def ended(self, request: Request, reader: Reader, *, is_new: bool) -> Job:
        """Wait for the end of the job; raises `ClientDisconnect` where the client leaves before it.

        `is_new` says that the reader listened before the job existed.
        """
        end, leaving = asyncio.create_task(self._end(reader, is_new)), asyncio.create_task(_left(request))
        try:
            await asyncio.wait((end, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not end.done():
                raise ClientDisconnect
            job = await end
            self._is_told = job.state.is_final
        finally:
            end.cancel()
            leaving.cancel()
            await self.over()
        return job

    async def chunks(self, chunks: Chunks) -> AsyncGenerator[Chunk]:
        """Yield the chunks of the answer as they come; whoever sends them says when that is `over`."""
        with self._clients.feed.place(self._caller):
            async with self._clients.feed.reader(self.job_id) as reader:
                async for chunk in chunks.of(self._clients.feed.events(reader), self.job):
                    yield chunk
        self._is_told = True

    async def over(self) -> None:
        """Cancel the job where the client has left before it was told the end."""
        if not (self._is_told or self._is_kept):
            self._clients.leavers.cancel(self.job_id, self._tenant_id)

    async def _end(self, reader: Reader, is_new: bool) -> Job:
        async for _ in self._clients.feed.events(reader, is_new=is_new):
            pass
        return await self.job()


async def _left(request: Request) -> None:
    """Return once the client has gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
