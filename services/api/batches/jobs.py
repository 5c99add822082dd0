"""The jobs of a batch's lines: made as room is, looked at together, forgotten when their answers are stored."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import redis
import structlog

from services.api.batches.lines import Line
from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import create_under_release
from shared.contracts.batches import Batch
from shared.contracts.jobs import Job, NewJob
from shared.errors import SignalboxError
from shared.ledger import calls
from shared.security.api_keys import Key

log = structlog.get_logger()
_AT_ONCE = 100
"""Jobs that are made, or whose ends are read, in one round trip."""
_LOOKED_AT = 500
_PAUSE_SECONDS = 1.0


class LineJobs:
    """Makes, reads, cancels and forgets the jobs of one batch."""

    def __init__(self, clients: Clients, batch: Batch, caller: Key) -> None:
        self._clients = clients
        self._batch = batch
        self._caller = caller
        self._not_before = 0.0

    @property
    def has_room(self) -> bool:
        """Whether no refusal of a moment ago says to wait."""
        return time.monotonic() >= self._not_before

    async def make(self, lines: Sequence[Line]) -> list[SignalboxError | bool]:
        """Make a job for each line; returns True for one that is there, False for one to try later, or its error."""
        made: list[SignalboxError | bool] = []
        for begin in range(0, len(lines), _AT_ONCE):
            chunk = lines[begin : begin + _AT_ONCE]
            if not self.has_room:
                return made + [False] * (len(lines) - begin)
            made += await asyncio.gather(*(self._make(line) for line in chunk))
        return made

    async def _make(self, line: Line) -> SignalboxError | bool:
        def build(current: CurrentRelease) -> NewJob:
            seconds_left = max(1.0, self._batch.expires_at - time.time())
            return line.build(current).model_copy(update={"deadline_seconds": seconds_left})

        try:
            await self._clients.quotas.count_tokens(self._caller, *line.texts, new_tokens=line.new_tokens)
            await create_under_release(self._clients, self._batch.tenant_id, build)
        except SignalboxError as error:
            if error.code == "idempotency_key_reused":  # the same line, under settings of another day
                return True
            if not error.retryable:
                return error
            self._wait(error.code, error.retry_after_seconds)
            return False
        except redis.RedisError as error:
            self._wait(str(error), None)
            return False
        return True

    def _wait(self, why: str, seconds: int | None) -> None:
        if self.has_room:
            log.info("batch_waits", batch=self._batch.id, why=why)
        self._not_before = time.monotonic() + min(seconds or _PAUSE_SECONDS, 5 * _PAUSE_SECONDS)

    async def look(self, job_ids: Sequence[str]) -> tuple[dict[str, str], list[Job]]:
        """Return the state of each job (empty for one that is not there), and those that have ended, whole."""
        states: dict[str, str] = {}
        ended: list[Job] = []
        for begin in range(0, len(job_ids), _LOOKED_AT):
            some = job_ids[begin : begin + _LOOKED_AT]
            found = await self._clients.ledger.do(calls.look(some, _AT_ONCE))
            states |= zip(some, found.states, strict=True)
            ended += found.ended
        return states, ended

    async def cancel(self, job_ids: Iterable[str]) -> None:
        """Cancel jobs; one that is not there any more is no error."""
        cancelled = (self._clients.ledger.do(calls.cancel(job_id, self._batch.tenant_id)) for job_id in job_ids)
        for end in await asyncio.gather(*cancelled, return_exceptions=True):
            if isinstance(end, BaseException) and not (isinstance(end, SignalboxError) and not end.retryable):
                raise end

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Forget jobs whose answers are stored; those that stay are kept as long as other jobs."""
        try:
            for begin in range(0, len(job_ids), _AT_ONCE):
                some = job_ids[begin : begin + _AT_ONCE]
                await self._clients.ledger.do(calls.forget_jobs(self._batch.tenant_id, some))
        except (SignalboxError, redis.RedisError) as error:
            log.warning("jobs_not_forgotten", batch=self._batch.id, error=str(error))
