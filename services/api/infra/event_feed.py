"""Event streams: one reader per process passes the ledger's feed on to bounded queues; gaps are replayed.

A listener first replays its job's own stream, then takes live events. Where its queue overflows, or the feed was
interrupted, it replays the job's stream from the last event that it passed on: no event is lost or repeated.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import redis.asyncio
import structlog

from services.api.infra.tasks import end
from shared.contracts.jobs import JobState
from shared.contracts.shares import Shares
from shared.errors import TooMany
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key

log = structlog.get_logger()
QUEUE_LENGTH = 256
_BATCH = 1000
_BLOCK_MS = 1000
_PAUSE_SECONDS = 0.5
_LINGER_SECONDS = 1.0
"""The shared reader runs on for this time after its last listener left, so that the next one need not start it."""
START = "0-0"
_WHOSE = ("event streams", "event streams of this tenant", "event streams of this API key")


class Event(NamedTuple):
    """One event of a job; `id` is its position in the job's own stream."""

    id: str
    type: str
    data: str

    @property
    def is_final(self) -> bool:
        """Whether the event ends the job."""
        return self.type == "state" and JobState(json.loads(self.data)["state"]).is_final


class Reader:
    """The live events of one job for one listener; holds at most `QUEUE_LENGTH` of them."""

    def __init__(self, job_id: str, *, ends_only: bool = False) -> None:
        """With `ends_only` the listener wants to know of the job's end alone, and is woken by nothing else."""
        self.job_id = job_id
        self._ends_only = ends_only
        self.is_closed = False
        self._events: list[Event] = []
        self._has_gap = False
        self._wake = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Queue an event; where the queue is full, drop all its events and note the gap."""
        if self._ends_only and not event.is_final:
            return
        if len(self._events) >= QUEUE_LENGTH:
            self.lose()
        elif not self._has_gap:
            self._events.append(event)
            self._wake.set()

    def lose(self) -> None:
        """Note that events were missed: the listener must replay."""
        self._events.clear()
        self._has_gap = True
        self._wake.set()

    def close(self) -> None:
        """End the listener's stream."""
        self.is_closed = True
        self._wake.set()

    async def take(self) -> list[Event] | None:
        """Wait for events and return them; None after a gap, or at the end."""
        await self._wake.wait()
        self._wake.clear()
        events, self._events = self._events, []
        has_gap, self._has_gap = self._has_gap, False
        return None if has_gap or self.is_closed else events


class EventFeed:
    """All event streams of this process; the shared reader runs while there are listeners."""

    def __init__(self, url: str, limits: Shares) -> None:
        # Any: the library's reply types cover all protocols and encodings at once.
        self._redis: Any = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=10)
        self._limits = limits
        self._places: Counter[str] = Counter()
        self._readers: defaultdict[str, set[Reader]] = defaultdict(set)
        self.reader_count = 0
        self._position = ""
        self._left_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.closed = asyncio.Event()
        """Set when this process ends its streams."""

    @contextlib.contextmanager
    def place(self, caller: Key) -> Iterator[None]:
        """Take a place for a stream, of which each key, tenant and this process has so many; raises `TooMany`."""
        self.check_place(caller)
        owners = _owners(caller)
        self._places.update(owners)
        try:
            yield
        finally:
            self._places -= Counter(owners)

    def check_place(self, caller: Key) -> None:
        """Raise `TooMany` where no place is free for this key."""
        for owner, limit, whose in zip(_owners(caller), self._limits, _WHOSE, strict=True):
            if 0 < limit <= self._places[owner]:
                raise TooMany("too_many_event_readers", f"all {whose} are taken; try again shortly, or poll the job")

    @contextlib.asynccontextmanager
    async def reader(self, job_id: str, *, ends_only: bool = False) -> AsyncIterator[Reader]:
        """Listen to a job's new events, or to its end alone."""
        reader = Reader(job_id, ends_only=ends_only)
        self.reader_count += 1
        self._readers[job_id].add(reader)
        try:
            await self._ensure_running()
            yield reader
        finally:
            self.reader_count -= 1
            self._left_at = time.monotonic()
            self._readers[job_id].discard(reader)
            if not self._readers[job_id]:
                del self._readers[job_id]

    async def events(self, reader: Reader, after: str = START, *, is_new: bool = False) -> AsyncIterator[Event]:
        """Yield the job's events after `after`, past and live, until the job ends; waits while Redis is away.

        A job that is new to its reader, which listened before the job existed, has no past.
        """
        last = None
        while not reader.is_closed:
            try:
                has_past, is_new = not is_new, False
                async for event in self._until_gap(reader, after, has_past=has_past):
                    yield event
                    after, last = event.id, event
            except redis.RedisError as error:
                log.warning("replay_failed", job_id=reader.job_id, error=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)  # before the next try
                continue
            if last and last.is_final:
                return

    async def close(self) -> None:
        """End every stream; clients reconnect with Last-Event-ID."""
        self.closed.set()
        for readers in self._readers.values():
            for reader in readers:
                reader.close()
        if self._task:
            await end(self._task)
        await self._redis.aclose()

    async def _until_gap(self, reader: Reader, after: str, *, has_past: bool) -> AsyncIterator[Event]:
        """Yield past events, then live ones, up to a final event or a gap."""
        last = None
        if has_past:
            async for event in self.past(reader.job_id, after):
                yield event
                after, last = event.id, event
        if last and last.is_final:  # an earlier final event belongs to a run before a replay
            return
        while (events := await reader.take()) is not None:
            for event in events:
                if _order(event.id) > _order(after):
                    yield event
                    if event.is_final:
                        return

    async def past(self, job_id: str, after: str = START) -> AsyncIterator[Event]:
        """Yield the events of the job's own stream after an event."""
        is_whole = False
        while not is_whole:
            page = await self._redis.xrange(LedgerKey.EVENTS.of(job_id), f"({after}", "+", _BATCH)
            is_whole = len(page) < _BATCH
            for event_id, fields in page:
                yield Event(event_id, fields["type"], fields["data"])
                after = event_id

    async def _ensure_running(self) -> None:
        async with self._starting:
            if self._task is None or self._task.done():
                self._position = await self._newest()  # before the caller replays: no event is missed in between
                self._task = asyncio.create_task(self._run())

    async def _newest(self) -> str:
        newest = await self._redis.xrevrange(LedgerKey.FEED, count=1)
        return str(newest[0][0]) if newest else START

    async def _run(self) -> None:
        is_lost = False
        while self.reader_count or time.monotonic() < self._left_at + _LINGER_SECONDS:
            try:
                await self._read_on()
            except redis.RedisError as error:
                log.warning("feed_lost", error=str(error))
                is_lost = True
                await asyncio.sleep(_PAUSE_SECONDS)  # before the next try
                continue
            if is_lost:  # only now can the listeners read the missed events
                self._lose_all()
                is_lost = False

    async def _read_on(self) -> None:
        streams = await self._redis.xread({LedgerKey.FEED: self._position}, count=_BATCH, block=_BLOCK_MS)
        entries: list[Any] = streams[0][1] if streams else []
        if len(entries) == _BATCH and await self._was_trimmed():
            self._lose_all()
        for _, fields in entries:
            self._hand_out(fields)
        if entries:
            self._position = entries[-1][0]

    async def _was_trimmed(self) -> bool:
        """Whether the feed's oldest event is newer than our position: events were trimmed before we read them."""
        oldest = await self._redis.xrange(LedgerKey.FEED, count=1)
        return bool(oldest) and _order(oldest[0][0]) > _order(self._position)

    def _hand_out(self, fields: dict[str, str]) -> None:
        for reader in self._readers.get(fields["job"], ()):
            reader.offer(Event(fields["event"], fields["type"], fields["data"]))

    def _lose_all(self) -> None:
        for readers in self._readers.values():
            for reader in readers:
                reader.lose()


def _owners(caller: Key) -> tuple[str, str, str]:
    return "", f"tenant:{caller.tenant_id}", f"line:{caller.line}"


def _order(event_id: str) -> tuple[int, int]:
    time_ms, _, number = event_id.partition("-")
    return int(time_ms), int(number or 0)
