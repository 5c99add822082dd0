"""How fast the API accepts: open-loop arrivals against one API process, the ledger with AOF `always`.

A latency is taken from the moment the arrival was due, not from when a connection became free: waiting counts.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import redis
import uvloop

from benchmarks.common import Row, print_table, row, write_results
from services.cli.local.servers import free_ports, redis_server
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.ledger.keys import LedgerKey
from shared.security import api_keys

TEXT = "The company's quarterly profit rose by a fifth while its debts fell; what does the market make of it?"


def main() -> None:
    """Start the servers, drive them, print and write the figures."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder, running_api(Path(folder)) as (port, token, process):
        uvloop.run(drive(port, token, options.warm_up_seconds, options))
        loop = uvloop.run(drive(port, token, options.seconds, options))
        rss_mib = process.memory_info().rss / 2**20
    rows = figures(loop, rss_mib, options)
    print_table(rows)
    print(
        f"answers: {dict(loop.statuses)}; late starts of the client itself: p99 {percentile(loop.late_ms, 99):.1f} ms"
    )
    write_results("accept", rows)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up-seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=400, help="arrivals a second, exponentially spaced")
    parser.add_argument("--connections", type=int, default=32)
    return parser.parse_args()


@contextlib.contextmanager
def running_api(folder: Path) -> Iterator[tuple[int, str, psutil.Process]]:
    """Two Redis servers, a release and one API process; yields port, API key and process."""
    ledger_port, broker_port, api_port = free_ports(3)
    servers = [
        redis_server("ledger", ledger_port, folder / "ledger", fsync="always"),
        redis_server("broker", broker_port, folder / "broker", fsync="everysec"),
    ]
    environment = {
        **os.environ,
        "SIGNALBOX_REDIS_URL": f"redis://127.0.0.1:{ledger_port}/0",
        "SIGNALBOX_BROKER_URL": f"redis://127.0.0.1:{broker_port}/0",
        "SIGNALBOX_API_PORT": str(api_port),
        "SIGNALBOX_DATA_DIR": str(folder),
    }
    for server in servers:
        server.start()
    with (folder / "api.log").open("wb") as log:
        api = subprocess.Popen([sys.executable, "-m", "services.api"], env=environment, stderr=log)
    try:
        client = redis.Redis(port=ledger_port, decode_responses=True)
        publish_release(client)
        _, token = api_keys.create(client, frozenset({api_keys.Scope.SUBMIT}))
        asyncio.run(until_listening(api_port))
        yield api_port, token, psutil.Process(api.pid)
    finally:
        api.terminate()
        api.wait(20)
        for server in servers:
            server.stop()


def publish_release(client: "redis.Redis") -> None:
    """Make a release current as the registry would; its weights are never fetched here."""
    entry = ReleaseLabel(adapter="0" * 64, ref="fin.sa@1", group="fin", template="chatml", instruction="")
    selector = ReleaseSelector(llm="1" * 64, labels=("fin.sa",))
    release = Release(
        tenant_id="default",
        base_model="none",
        labels={"fin.sa": entry},
        selector=selector,
        verdict=Verdict(passed=True, reasons=()),
    )
    client.hset(LedgerKey.RELEASES.of("default"), release.id, release.model_dump_json())
    client.set(LedgerKey.RELEASE.of("default"), release.id)


async def until_listening(port: int) -> None:
    """Return when the port takes connections."""
    until = time.monotonic() + 30
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)  # between two attempts
        else:
            writer.close()
            return


class Loop:
    """One open-loop run and what it saw."""

    def __init__(self, port: int, token: str) -> None:
        self.latencies_ms: list[float] = []
        self.late_ms: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.began = self.last_answer = 0.0
        self._port = port
        body = json.dumps({"input": TEXT, "params": {"max_new_tokens": 16}}).encode()
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._due: asyncio.Queue[float | None] = asyncio.Queue()

    async def arrive(self, seconds: float, rate: float) -> None:
        """Queue the arrivals at their times, whether or not earlier ones are done."""
        gaps = [random.Random(number).expovariate(1) for number in range(round(seconds * rate))]
        scale = seconds / sum(gaps)  # random gaps, but exactly as many arrivals as the rate asks for
        self.began = due = time.perf_counter()
        for gap in gaps:
            due += gap * scale
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.late_ms.append((time.perf_counter() - due) * 1000)
            self._due.put_nowait(due)

    async def connection(self) -> None:
        """One keep-alive connection that takes what is due."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (due := await self._due.get()) is not None:
            writer.write(self._request)
            self.statuses[await read_answer(reader)] += 1
            now = time.perf_counter()
            self.latencies_ms.append((now - due) * 1000)
            self.last_answer = now
        writer.close()

    def end(self, connections: int) -> None:
        """Let every connection finish what is queued, then close."""
        for _ in range(connections):
            self._due.put_nowait(None)


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read one whole HTTP response; returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head[9:12])


async def drive(port: int, token: str, seconds: float, options: argparse.Namespace) -> Loop:
    """Run open loop for some seconds."""
    loop = Loop(port, token)
    connections = [asyncio.create_task(loop.connection()) for _ in range(options.connections)]
    await loop.arrive(seconds, options.rate)
    loop.end(options.connections)
    await asyncio.gather(*connections)
    return loop


def figures(loop: Loop, rss_mib: float, options: argparse.Namespace) -> list[Row]:
    """The rows of the results."""
    accepted = loop.statuses[202]
    took = loop.last_answer - loop.began
    spread = f"p50 {percentile(loop.latencies_ms, 50):.1f}, max {max(loop.latencies_ms):.1f}, n={accepted}"
    worst = percentile(loop.latencies_ms, 99) if accepted == len(loop.latencies_ms) else float("inf")
    return [
        row("accept_p99_ms", worst, "ms", spread=spread, goal=30, at_least=False),
        # What counts is that each arrival was accepted, and none piled up: 1 % is the last one's own latency.
        row("accept_per_s", accepted / took, "1/s", spread=f"{len(loop.latencies_ms) - accepted} not accepted",
            goal=options.rate * 0.99),
        row("api_rss_mib", rss_mib, "MiB", spread=f"after {accepted} jobs", goal=150, at_least=False),
    ]  # fmt: skip


def percentile(values: list[float], percent: int) -> float:
    """A percentile of many values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
