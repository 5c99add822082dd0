"""16: what is too much is refused at once and told when to come again; what was accepted is done."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import psutil

from tests.chaos.load import lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, SECONDS_PER_WORD, Plan, World

_GROWTH_MIB = 50.0
_WARM_UP = 50
_CLIENTS = 32
_PIECE = b"x" * (1 << 16)
_SAMPLE_SECONDS = 0.1


def plan(size: Size) -> Plan:
    """Few may wait and few may read, so that both limits are met."""
    limits = (("max_waiting_jobs", size.backlog), ("max_event_readers", size.readers))
    shares = (("max_tenant_share", 1), ("max_key_share", 1))
    return Plan(lease_seconds=size.lease_seconds, settings=limits + shares)


def prove(world: World, size: Size) -> Outcome:
    """All readers that are allowed hang on, and more come; then far too many jobs and far too large bodies."""
    return asyncio.run(_prove(world, size))


async def _prove(world: World, size: Size) -> Outcome:
    outcome = Outcome()
    limits = httpx.Limits(max_connections=_CLIENTS)
    headers = {"Authorization": f"Bearer {world.key}"}
    url = world.supervisor.api_url
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, limits=limits) as http:
        first, _ = await _flood(http, _WARM_UP, 2)
        world.wait_ended(first, size.patience_seconds)
        waiting = await _waiting_job(http)
        with Memory(world) as memory:
            async with _readers(world, waiting, size.readers) as opened:
                over = [await _status(http, f"/v1/training/jobs/{waiting}/events") for _ in range(size.over)]
                readers_mib = memory.restart()
                began = time.monotonic()
                accepted, statuses = await _flood(http, size.times * (size.backlog + _held_count(world)), size.words)
                offered_per_s = statuses.total() / (time.monotonic() - began)
                huge = [await _post_huge(http, size.huge_bytes, is_told=n % 2 == 0) for n in range(size.huge_bodies)]
                growth_mib = memory.restart()
        await http.delete(f"/v1/training/jobs/{waiting}")
    found = outcomes(world, accepted, size.patience_seconds)
    refused = {key: count for key, count in statuses.items() if key != (202, False)}
    outcome.injected = {
        "posts": statuses.total(),
        "huge_bodies": len(huge),
        "readers": opened,
        "readers_over": size.over,
    }
    done_per_s = len(world.workers) * world.settings.worker_slots / (size.words * SECONDS_PER_WORD)
    outcome.at_least("offered_load_x", offered_per_s / done_per_s, size.times, spread=f"{offered_per_s:.0f} posts/s")
    outcome.at_least("posts_refused_429_with_retry_after", statuses[429, True], 1, spread=_told(statuses))
    outcome.at_most("posts_answered_otherwise", sum(refused.values()) - statuses[429, True], 0)
    outcome.at_most("overload_accepted_jobs_lost", lost(found), 0, spread=spread(found))
    outcome.at_least(
        "huge_bodies_refused_413", huge.count(413), size.huge_bodies, spread=f"{size.huge_bytes >> 20} MiB each"
    )
    outcome.at_least("readers_over_refused_429_with_retry_after", over.count((429, True)), size.over)
    outcome.at_least("readers_served", opened, size.readers, spread=f"{readers_mib:.1f} MiB for them")
    outcome.at_most("overload_api_growth_mib", growth_mib, _GROWTH_MIB, unit="MiB")
    return outcome


class Memory:
    """The most memory the API held since the last `restart`, above what it held then."""

    def __init__(self, world: World) -> None:
        self._process = psutil.Process(world.child("api").process.pid)
        self._base = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def restart(self) -> float:
        """The growth in MiB up to its peak; counts anew from now."""
        growth = (self._peak - self._base) / 2**20
        self._base = self._peak = self._process.memory_info().rss
        return growth

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)


async def _flood(http: httpx.AsyncClient, count: int, words: int) -> tuple[list[str], Counter[tuple[int, bool]]]:
    """Post as fast as answers come, nothing again; answers the accepted jobs and the statuses."""
    accepted: list[str] = []
    statuses: Counter[tuple[int, bool]] = Counter()
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            label = LABELS[number % len(LABELS)]
            answer = await http.post("/v1/jobs", json={"input": text_for(label, number, words), "label": label})
            statuses[answer.status_code, "retry-after" in answer.headers] += 1
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return accepted, statuses


def _held_count(world: World) -> int:
    """Jobs that all workers together have at once."""
    return len(world.workers) * (world.settings.worker_slots + world.settings.worker_ahead)


async def _waiting_job(http: httpx.AsyncClient) -> str:
    """A job that does not end while it is read: there is no trainer."""
    rows = b'{"input": "a", "output": "b"}\n{"input": "b", "output": "a"}\n' * 2
    dataset = (await http.post("/v1/datasets?name=rows", content=rows)).raise_for_status().json()["id"]
    body = {"kind": "adapter.train", "label": "bank.cards", "dataset": dataset}
    return str((await http.post("/v1/training/jobs", json=body)).raise_for_status().json()["id"])


@asynccontextmanager
async def _readers(world: World, job_id: str, count: int) -> AsyncIterator[int]:
    """Hang on to the job's events `count` times; answers how many streams began."""
    host, port = world.settings.api_host, world.settings.api_port
    head = (
        f"GET /v1/training/jobs/{job_id}/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {world.key}\r\n\r\n"
    ).encode()
    async with AsyncExitStack() as stack:
        served = 0
        drains = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, port)
            stack.callback(writer.close)
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            served += answer.startswith(b"HTTP/1.1 200")
            drains.append(asyncio.create_task(_drain(reader)))
        yield served
        for task in drains:
            task.cancel()


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


async def _status(http: httpx.AsyncClient, path: str) -> tuple[int, bool]:
    async with http.stream("GET", path) as answer:
        return answer.status_code, "retry-after" in answer.headers


async def _post_huge(http: httpx.AsyncClient, size_bytes: int, *, is_told: bool) -> int:
    """Send a body of this size, its length told beforehand or not; answers the status."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"input": "'
        for _ in range(size_bytes // len(_PIECE)):
            yield _PIECE

    length = len(b'{"input": "') + size_bytes // len(_PIECE) * len(_PIECE)
    headers = {"Content-Type": "application/json"} | ({"Content-Length": str(length)} if is_told else {})
    try:
        answer = await http.post("/v1/jobs", content=pieces(), headers=headers)
    except httpx.TransportError:  # the server may close before all is sent, but it must have answered
        return 0
    return answer.status_code


def _told(statuses: Counter[tuple[int, bool]]) -> str:
    return ", ".join(f"{count} x {status}" for (status, _), count in sorted(statuses.items()))


PROMISE = Promise(16, "Overload is refused, not suffered", plan, prove)
