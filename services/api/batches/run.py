"""One batch under a lease: checked, fed into the ledger part by part, its answers stored, its files made.

Killed at any moment, whoever takes the lease next goes on: jobs have ids that follow from their lines, a part counts
once the record notes it, and what is made at the end has ids that follow from the batch.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import redis
import structlog

from services.api.batches import parts
from services.api.batches.input import InputFile, check
from services.api.batches.lines import LineReader
from services.api.batches.metrics import LINES
from services.api.batches.work import PartsAtWork
from services.api.infra.clients import Clients
from services.api.infra.tasks import end
from shared.contracts.batches import SHOWN_ERRORS, Batch, BatchState, LineError, folder_of
from shared.errors import NotFound, SignalboxError
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.registry.store_errors import Corrupt
from shared.security.api_keys import Key

log = structlog.get_logger()
T = TypeVar("T")
TICK_SECONDS = 0.2
_RENEW_SECONDS = 1.0
"""Also how soon a cancel is seen."""
_PAUSE_SECONDS = 1.0


class BatchRun:
    """Brings a leased batch to its end; `share` is the number of lines that it may have in the ledger now."""

    def __init__(self, clients: Clients, taken: calls.Taken, share: Callable[[], int]) -> None:
        self.batch = taken.batch
        self._clients = clients
        self._fence = taken.fence
        self._cancelling_at = taken.cancelling_at
        self._share = share

    @property
    def named(self) -> dict[str, str]:
        """What logs say of it."""
        return {"batch": self.batch.id}

    async def run(self) -> None:
        """Work until the batch has ended, or another worker has it."""
        working, renewing = asyncio.create_task(self._work()), asyncio.create_task(self._renew())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ends = await end(working, renewing)
        for ended in ends:
            if isinstance(ended, calls.StaleBatch):
                log.warning("batch_lost", batch=self.batch.id)
                return
        if isinstance(ends[0], Exception):
            raise ends[0]

    async def release(self) -> None:
        """Give the lease back, so that another worker takes the batch at once."""
        with contextlib.suppress(SignalboxError, redis.RedisError):
            await self._clients.ledger.do(calls.write_batch(self.batch.id, self._fence, None, 0))

    async def _work(self) -> None:
        with tempfile.TemporaryDirectory(prefix="signalbox-batch-") as folder:
            input_file = await self._input(Path(folder) / "input")
            if input_file is not None:
                await self._answer(input_file, Path(folder))
        await self._patiently(lambda: asyncio.to_thread(parts.remove_all, self._clients.registry.store, self.batch))
        log.info("batch_ended", batch=self.batch.id, state=self.batch.state)

    async def _answer(self, input_file: InputFile, folder: Path) -> None:
        caller = await self._patiently(self._caller)
        reader = LineReader(self._clients, caller, self.batch.id, self.batch.endpoint)
        if self.batch.state is BatchState.VALIDATING:
            await self._validate(input_file, reader)
        if not self.batch.state.is_final:
            at_work = PartsAtWork(self._clients, self.batch, caller, input_file, reader, self._fence)
            await self._run_parts(at_work)
            await self._finish(folder)

    async def _input(self, path: Path) -> InputFile | None:
        """Fetch the input; None where it is not what the batch was made of, which has failed then."""
        store = self._clients.registry.store
        try:
            await self._patiently(lambda: asyncio.to_thread(parts.fetch_input, store, self.batch, path))
        except (NotFound, Corrupt):
            detail = "the copy of the input file is gone or changed: upload the file again, and make another batch"
            await self._fail([LineError(code="input_lost", message=detail)])
            return None
        found = InputFile(path, self._clients.settings.max_body_bytes)
        await asyncio.to_thread(found.index)
        return found

    async def _caller(self) -> Key:
        """The key that made the batch, for its limits; what it was allowed then it finishes."""
        raw = await self._clients.ledger.redis.hget(LedgerKey.API_KEYS, self.batch.key)
        if raw:
            return Key.model_validate_json(raw)
        who = {"tenant_id": self.batch.tenant_id, "line": self.batch.key_line}
        return Key(id=self.batch.key, sha256="", name="", scopes=frozenset(), **who)

    async def _validate(self, input_file: InputFile, reader: LineReader) -> None:
        found = await self._patiently(lambda: check(input_file, reader, self._clients.settings.max_body_bytes))
        if found.errors:
            await self._fail(found.errors)
        else:
            await self._enter(BatchState.IN_PROGRESS, total=len(input_file), model=found.model)

    async def _fail(self, errors: list[LineError]) -> None:
        if len(errors) > SHOWN_ERRORS:
            text = "".join(f"{error.model_dump_json()}\n" for error in errors)
            key = f"{folder_of(self.batch.tenant_id, self.batch.id)}errors.jsonl"
            store = self._clients.registry.store
            await self._patiently(lambda: asyncio.to_thread(store.put, key, text.encode()))
        await self._enter(BatchState.FAILED, errors=tuple(errors[:SHOWN_ERRORS]), error_count=len(errors))

    async def _run_parts(self, at_work: PartsAtWork) -> None:
        while next(self.batch.unsettled, None) is not None:
            await self._note_stop()
            await self._patiently(lambda: at_work.step(self.batch, self._share()))
            for part in at_work.take_done():
                await self._settle(at_work, part)
            completed, failed = at_work.counts(self.batch)
            if (completed, failed) != (self.batch.completed, self.batch.failed):
                await self._write(self.batch.model_copy(update={"completed": completed, "failed": failed}))
            await asyncio.sleep(TICK_SECONDS)

    async def _note_stop(self) -> None:
        """Note that the batch is to be stopped, once."""
        if self.batch.stopped_by:
            return
        if self._cancelling_at:
            await self._enter(BatchState.CANCELLING, stopped_by="cancelled")
        elif time.time() >= self.batch.expires_at:
            await self._write(self.batch.model_copy(update={"stopped_by": "expired"}))

    async def _settle(self, at_work: PartsAtWork, part: parts.PartRun) -> None:
        noted, content = part.settled(self._fence)
        key, store = parts.part_key(self.batch, part.number, self._fence), self._clients.registry.store
        await self._patiently(lambda: asyncio.to_thread(store.put, key, content))
        settled = {**self.batch.parts, part.number: noted}
        await self._write(self.batch.model_copy(update={"parts": settled}))
        LINES.labels("completed").inc(noted.completed)
        LINES.labels("failed").inc(noted.failed)
        await at_work.jobs.forget(part.job_ids)

    async def _finish(self, folder: Path) -> None:
        if not self.batch.stopped_by and self.batch.state is not BatchState.FINALIZING:
            await self._enter(BatchState.FINALIZING)
        at = time.time()
        output, errors = await self._patiently(
            lambda: asyncio.to_thread(parts.join, self._clients.registry, self.batch, folder, at)
        )
        ended = BatchState(self.batch.stopped_by or BatchState.COMPLETED)
        await self._enter(ended, output_file_id=output, error_file_id=errors)

    async def _enter(self, state: BatchState, **changes: object) -> None:
        log.info("batch_moves", batch=self.batch.id, state=state)
        await self._write(self.batch.entered(state, time.time(), **changes))

    async def _write(self, record: Batch) -> None:
        lease = self._clients.settings.lease_seconds
        call = calls.write_batch(record.id, self._fence, record, lease)
        self._cancelling_at = await self._patiently(lambda: self._clients.ledger.do(call)) or self._cancelling_at
        self.batch = record

    async def _renew(self) -> None:
        """Renew the lease while the batch is at work; raises `StaleBatch`."""
        call = calls.write_batch(self.batch.id, self._fence, None, self._clients.settings.lease_seconds)
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                self._cancelling_at = await self._clients.ledger.do(call) or self._cancelling_at
            except calls.StaleBatch:
                raise
            except (SignalboxError, redis.RedisError) as error:
                log.warning("lease_not_renewed", batch=self.batch.id, error=str(error))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what may have to wait for ledger or store, until it is done; raises what no wait helps against."""
        while True:
            try:
                return await work()
            except Corrupt:
                raise
            except (SignalboxError, redis.RedisError) as error:
                if isinstance(error, SignalboxError) and not error.retryable:
                    raise
                log.warning("batch_waits", batch=self.batch.id, why=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)  # before the next try
