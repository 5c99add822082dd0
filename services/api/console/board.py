"""What the page Live shows: made once per tenant while anybody looks, and handed to all of its readers."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import redis
import structlog

from services.api.console.rendering import part
from services.api.infra.clients import Clients
from shared.contracts.generation import selection_of
from shared.contracts.jobs import JobKind, JobState, ListedJob
from shared.contracts.manifests import Release
from shared.errors import Conflict
from shared.ledger import calls
from shared.ledger.calls import Board, Track
from shared.names import BASE_GROUP, SELECT_QUEUE, TRAIN_QUEUE, generate_queue

log = structlog.get_logger()
EVERY_SECONDS = 2.0
MINUTES = 30
JOBS_COUNTED = 200
JOBS_SHOWN = 15
GROUPS_SHOWN = 10
STAGES = ("queued", "selecting", "routed", "running")
"""States whose duration is shown: waiting for the selector, selection, waiting for a worker, generation."""


class Stage(NamedTuple):
    """How long the last jobs were in one state, in milliseconds."""

    name: str
    p50: float
    p95: float


class Look:
    """One tenant's parts of the page, each as HTML under its name, and who waits for the next ones."""

    def __init__(self, clients: Clients, tenant_id: str) -> None:
        self._clients = clients
        self._tenant_id = tenant_id
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.readers = 0
        self.parts: dict[str, str] = {}

    @property
    def is_over(self) -> bool:
        """Whether this process ends its streams."""
        return self._clients.feed.closed.is_set()

    async def current(self) -> dict[str, str]:
        """Return the parts as they are now."""
        self.parts = await parts(self._clients, self._tenant_id)
        return self.parts

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Keep the parts current as long as anybody reads them."""
        self.readers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self.readers -= 1
            if not self.readers and self._task:
                self._task.cancel()
                self._task = None

    async def next(self, seen: dict[str, str], seconds: float) -> dict[str, str]:
        """Return the parts that are not as in `seen`, as soon as there are any; none after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.is_over or self.parts != seen)
        return {name: text for name, text in self.parts.items() if seen.get(name) != text}

    async def _follow(self) -> None:
        # A cancel may be lost (`infra.tasks.end`), and a page that is torn down waits for nothing.
        while not self.is_over and self._task is asyncio.current_task():
            try:
                found = await parts(self._clients, self._tenant_id)
            except redis.RedisError as error:
                log.warning("live_page_failed", error=str(error))
                found = self.parts | {"standing": part("live_away.html")}
            async with self._changed:
                self.parts = found
                self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._clients.feed.closed.wait(), EVERY_SECONDS)
        async with self._changed:
            self._changed.notify_all()


class Looks:
    """The looks of all tenants whose page anybody has opened."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, Look] = {}

    def of(self, clients: Clients, tenant_id: str) -> Look:
        """Return what all readers of this tenant share."""
        return self._by_tenant.setdefault(tenant_id, Look(clients, tenant_id))


async def parts(clients: Clients, tenant_id: str) -> dict[str, str]:
    """Return a tenant's parts of the page Live."""
    release, board, jobs = await asyncio.gather(
        _release(clients, tenant_id),
        clients.ledger.do(calls.board(tenant_id, MINUTES)),
        clients.ledger.do(calls.list_jobs(tenant_id, limit=JOBS_COUNTED)),
    )
    return {
        "standing": part("live_standing.html", release=release, tracks=tracks(board, release)),
        "board": part("live_board.html", **board_view(board, release)),
        "numbers": part("live_numbers.html", came=board.came, **numbers(jobs.jobs)),
        "jobs": part("live_jobs.html", jobs=jobs.jobs[:JOBS_SHOWN], selection_of=selection_of),
    }


async def _release(clients: Clients, tenant_id: str) -> Release | None:
    with contextlib.suppress(Conflict):
        return (await clients.releases.current(tenant_id)).release
    return None


def tracks(board: Board, release: Release | None) -> list[Track]:
    """Return the queues that concern the tenant: those of its release, and where it has jobs."""
    known = {track.queue: track for track in board.tracks}
    own = {SELECT_QUEUE, TRAIN_QUEUE, generate_queue(BASE_GROUP), *(release.queues if release else ())}
    own |= {track.queue for track in board.tracks if track.waiting or track.running}
    return [known.get(queue, Track(queue, 0, 0, ())) for queue in sorted(own)]


def board_view(board: Board, release: Release | None) -> dict[str, Any]:
    """Return the picture's data: the busiest groups, and for each queue what its workers hold."""
    own = tracks(board, release)
    groups = [track for track in own if track.queue not in (SELECT_QUEUE, TRAIN_QUEUE)]
    busiest = sorted(groups, key=lambda track: (-track.waiting - track.running, track.queue))[:GROUPS_SHOWN]
    by_name = {track.queue: track for track in own}
    return {
        "select": by_name[SELECT_QUEUE],
        "train": by_name[TRAIN_QUEUE],
        "groups": sorted(busiest),
        "hidden": len(groups) - len(busiest),
        "tracks": own,
        "resident": {track.queue: _resident(track, board, release) for track in own},
        "rate": board.came[-2][1] if len(board.came) > 1 else 0,
    }


def _resident(track: Track, board: Board, release: Release | None) -> list[str]:
    """Return the labels of the release whose adapters a worker of the queue holds."""
    held = {digest for owner in track.workers for digest in board.workers.get(owner, {}).get("resident", ())}
    return sorted(label for label, entry in (release.labels if release else {}).items() if entry.adapter in held)


def numbers(jobs: Sequence[ListedJob]) -> dict[str, Any]:
    """Return how the last jobs ended, and how long each of their stages took."""
    ended = [job for job in jobs if job.state.is_final and job.kind is JobKind.GENERATE]
    times = [job.stage_ms() for job in ended]
    errors = Counter(str((job.error or {}).get("code")) for job in ended if job.state is JobState.FAILED)
    found = ((name, sorted(ms[name] for ms in times if name in ms)) for name in STAGES)
    return {
        "ended": len(ended),
        "states": Counter(job.state.value for job in ended),
        "errors": errors.most_common(5),
        "stages": [Stage(name, _at(values, 0.5), _at(values, 0.95)) for name, values in found if values],
        "since": min((min(job.timestamps.values()) for job in ended), default=time.time() * 1000),
    }


def _at(ordered: Sequence[float], share: float) -> float:
    """Return the value at a share of the way through ordered values (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
