"""A routed job through the whole system without a language model: light selector, echo engine, real queues and ledger.

Idle: one job at a time, from the request leaving to its final event arriving. Busy: many jobs at once; the CPU time of
our processes and both Redis servers per job. The client's CPU time is never counted.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import psutil
import redis
from signalbox import Signalbox

from benchmarks.common import Row, median_row, print_table, row, write_results
from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT
from tests.support.echo_release import echo_system

CLIENTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300, help="one at a time, per run")
    parser.add_argument("--busy-jobs", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    data = DemoData()
    texts = [row.text for row, _ in zip(data.stream(), range(args.jobs), strict=False)]
    with tempfile.TemporaryDirectory() as folder, echo_system(Path(folder), data) as (supervisor, client):
        idle(client, texts[:100])
        busy(supervisor, client, texts, 200)
        p50s, per_cpu_s = [], []
        for _ in range(args.runs):
            took = sorted(idle(client, texts))
            p50s.append(took[len(took) // 2])
            per_cpu_s.append(busy(supervisor, client, texts, args.busy_jobs))
        trips = round_trips(supervisor, client, texts[:100])
    rows = [
        median_row("routed_p50_ms", p50s, "ms", goal=12, at_least=False),
        median_row("routed_per_cpu_s", per_cpu_s, "1/s", goal=225),
        *trips,
    ]
    print_table(rows)
    write_results("routed", rows)


def idle(client: Signalbox, texts: list[str]) -> list[float]:
    """Milliseconds of each job, one after the other."""
    return [one(client, text) for text in texts]


def one(client: Signalbox, text: str) -> float:
    """Milliseconds from the request leaving to the final event arriving."""
    started = time.perf_counter()
    job = client.post("/v1/jobs", body(text))
    for _ in client.events(f"/v1/jobs/{job['id']}/events"):
        pass
    return (time.perf_counter() - started) * 1000


def body(text: str) -> dict[str, object]:
    return {"input": text, "params": {"max_new_tokens": 16}}


def busy(supervisor: Supervisor, client: Signalbox, texts: list[str], count: int) -> float:
    """Jobs done in a second of CPU time of our processes and Redis."""
    ended = int(supervisor.ledger.redis.zcard(LedgerKey.KEPT.of(DEFAULT_TENANT)))
    before = cpu_seconds(supervisor)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda n: client.post("/v1/jobs", body(texts[n % len(texts)])), range(count)))
    until = time.monotonic() + 120
    while int(supervisor.ledger.redis.zcard(LedgerKey.KEPT.of(DEFAULT_TENANT))) < ended + count:
        if time.monotonic() > until:
            raise TimeoutError("the jobs do not end")
        time.sleep(0.05)  # between two polls
    return count / (cpu_seconds(supervisor) - before)


def round_trips(supervisor: Supervisor, client: Signalbox, texts: list[str]) -> list[Row]:
    """Commands of our processes to each Redis, for a job without a listener and for one with."""
    settings, rows = supervisor.settings, []
    ways = {"": lambda: unfollowed(supervisor, client, texts), "followed_": lambda: idle(client, texts)}
    for way, act in ways.items():
        servers = [CommandCounter(settings.redis_url), CommandCounter(settings.broker_url)]
        act()
        for name, counter in zip(("ledger", "broker"), servers, strict=True):
            rows.append(row(f"routed_{way}{name}_commands", counter.stop() / len(texts), "1/job"))
    return rows


def unfollowed(supervisor: Supervisor, client: Signalbox, texts: list[str]) -> None:
    """Run jobs one after the other without a listener; the ledger tells when each has ended."""
    for text in texts:
        key = LedgerKey.JOB.of(client.post("/v1/jobs", body(text))["id"])
        while not supervisor.ledger.redis.hexists(key, "ended_by"):
            time.sleep(0.005)  # between two polls


class CommandCounter:
    """Counts the commands that clients send a server, without those of scripts and of this benchmark's polling."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._monitor = self._redis.monitor().__enter__()  # type: ignore[no-untyped-call]
        self._count = 0
        self._thread = Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for command in self._monitor.listen():
            if command["command"] == "ECHO enough":
                return
            self._count += command["client_type"] != "lua" and not command["command"].startswith("HEXISTS")

    def stop(self) -> int:
        """Stop, and return the number of commands."""
        self._redis.echo("enough")
        self._thread.join()
        return self._count


def cpu_seconds(supervisor: Supervisor) -> float:
    """CPU time so far of the API, the selector, the worker and both Redis servers; without the S3 server."""
    owners = [*supervisor.children, *(server for server in supervisor.servers if server.name != "s3")]
    times = [psutil.Process(owner.process.pid).cpu_times() for owner in owners if owner.process]
    return sum(spent.user + spent.system for spent in times)


if __name__ == "__main__":
    main()
