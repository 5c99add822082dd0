"""What a backlog costs whoever comes later: the echo engine behind the real API, queues and ledger.

The engine's pace bounds the capacity, not the processors: `worker_slots` and `worker_ahead` jobs run at once, all of
one length. Jobs name their label, so the selector takes no part. Interactive jobs arrive at random (Poisson) at 30 % of
the measured capacity, alone, beside queued batch jobs of the same group, and beside another tenant's interactive jobs.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from signalbox import Signalbox

from benchmarks.common import Row, median_row, print_table, row, write_results
from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from shared.contracts.generation import generation_result
from shared.contracts.jobs import Job, JobState
from shared.ledger import calls
from shared.names import DEFAULT_TENANT
from shared.security import api_keys
from tests.support.echo_release import echo_system, publish

WORDS = 15
SECONDS_PER_TOKEN = 0.02
LOAD = 0.3
OTHER_TENANT = "other"
CLIENTS = 8
READERS = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=15, help="of arrivals, per run")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    data = DemoData()
    with (
        tempfile.TemporaryDirectory() as name,
        echo_system(Path(name), data, echo_seconds_per_token=SECONDS_PER_TOKEN) as (supervisor, client),
    ):
        bench = Bench(supervisor, client, Path(name), data)
        rows = bench.rows(args.backlog, args.seconds, args.runs)
    print_table(rows)
    write_results("fairness", rows)


class Bench:
    """A running system, a client of its tenant and one of another, and two labels of one group."""

    def __init__(self, supervisor: Supervisor, client: Signalbox, folder: Path, data: DemoData) -> None:
        self._ledger = supervisor.ledger
        self._client = client
        (folder / OTHER_TENANT).mkdir()
        publish(supervisor, folder / OTHER_TENANT, data, OTHER_TENANT)
        key = api_keys.create(supervisor.ledger.redis, frozenset({api_keys.Scope.SUBMIT}), tenant_id=OTHER_TENANT)[1]
        self._other = Signalbox(supervisor.api_url, key)
        self._label = data.labels[0]

    def rows(self, backlog: int, seconds: float, runs: int) -> list[Row]:
        """Every figure; the latencies as medians over the runs."""
        self.capacity(2.0)  # warms up
        capacity = self.capacity(10.0)
        rate = LOAD * capacity
        alone, beside_batch, beside_tenant = [], [], []
        for run in range(runs):
            alone.append(self.p95(rate, seconds, run))
            with self.backlog(self._client, "batch", backlog):
                beside_batch.append(self.p95(rate, seconds, run))
            with self.backlog(self._other, "interactive", backlog):
                beside_tenant.append(self.p95(rate, seconds, run))
            print(f"p95 ms: {alone[-1]:.0f}, {beside_batch[-1]:.0f}, {beside_tenant[-1]:.0f}", flush=True)
        shares = [self.batch_share(seconds) for _ in range(runs)]
        return [
            row("interactive_capacity_per_s", capacity, "1/s"),
            median_row("interactive_alone_p95_ms", alone, "ms"),
            median_row("interactive_beside_batch_x", ratios(beside_batch, alone), "x", goal=3, at_least=False),
            median_row("interactive_beside_tenant_x", ratios(beside_tenant, alone), "x", goal=3, at_least=False),
            median_row("batch_share", shares, "", goal=0.15),
            median_row("batch_share_upper", shares, "", goal=0.25, at_least=False),
        ]

    def capacity(self, seconds: float) -> float:
        """Interactive jobs done a second where more of them wait than the engine takes."""
        until = time.monotonic() + seconds
        done: list[float] = []

        def work(_: int) -> None:
            while time.monotonic() < until:
                self.one()
                done.append(time.monotonic())

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(work, range(READERS)))
        return sum(at < until for at in done) / seconds

    def one(self) -> None:
        """Post an interactive job and follow it to its end."""
        job = self._client.post("/v1/jobs", self.body("interactive"))
        for _ in self._client.events(f"/v1/jobs/{job['id']}/events"):
            pass

    def body(self, priority: str) -> dict[str, object]:
        return {
            "input": " ".join(["word"] * WORDS),
            "label": self._label,
            "priority": priority,
            "params": {"max_new_tokens": WORDS + 1},
        }

    def p95(self, rate: float, seconds: float, seed: int) -> float:
        """Milliseconds within which 95 % of the jobs end, counted from when each was to arrive."""
        took: list[float] = []
        with ThreadPoolExecutor(READERS) as pool:
            for due in arrivals(rate, seconds, seed):
                threading.Event().wait(max(0.0, due - time.monotonic()))
                pool.submit(self._timed, due, took.append)
        return sorted(took)[int(0.95 * len(took))]

    def _timed(self, due: float, note: Callable[[float], None]) -> None:
        self.one()
        note((time.monotonic() - due) * 1000)

    @contextmanager
    def backlog(self, client: Signalbox, priority: str, count: int) -> Iterator[None]:
        """So many queued jobs; what is left of them in the end is cancelled."""
        ids = self.post(client, priority, count)
        try:
            yield
            self.check_waiting(ids)
        finally:
            self.clear(client, ids)

    def post(self, client: Signalbox, priority: str, count: int) -> list[str]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            posts = pool.map(lambda _: client.post("/v1/jobs", self.body(priority))["id"], range(count))
            return [str(job_id) for job_id in posts]

    def check_waiting(self, ids: list[str]) -> None:
        if not any(self._job(job_id).state == JobState.ROUTED for job_id in ids):
            raise RuntimeError("the backlog ended before the measurement: take a larger one")

    def clear(self, client: Signalbox, ids: list[str]) -> None:
        """Cancel what has not ended, and wait until nothing runs."""
        tenant = OTHER_TENANT if client is self._other else DEFAULT_TENANT
        for job_id in ids:
            self._ledger.do(calls.cancel(job_id, tenant))
        while any(not self._job(job_id).state.is_final for job_id in ids):
            threading.Event().wait(0.1)

    def batch_share(self, seconds: float) -> float:
        """Batch jobs' share of the tokens while both kinds wait all the time."""
        batch = self.post(self._client, "batch", int(40 * seconds))
        interactive = self.post(self._client, "interactive", int(60 * seconds))
        before = self.tokens(batch), self.tokens(interactive)
        threading.Event().wait(seconds)
        after = self.tokens(batch), self.tokens(interactive)
        for ids in (batch, interactive):
            self.check_waiting(ids)
        self.clear(self._client, batch + interactive)
        of_batch, of_interactive = (late - early for late, early in zip(after, before, strict=True))
        return of_batch / (of_batch + of_interactive)

    def tokens(self, ids: list[str]) -> int:
        """Tokens of these jobs' answers so far."""
        results = (generation_result(self._job(job_id)) for job_id in ids)
        return sum(result.usage.completion_tokens for result in results if result)

    def _job(self, job_id: str) -> Job:
        return self._ledger.do(calls.get(job_id))


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times of the monotonic clock, at random intervals."""
    chance, due = random.Random(seed), time.monotonic()
    end = due + seconds
    while (due := due + chance.expovariate(rate)) < end:
        yield due


def ratios(values: list[float], bases: list[float]) -> list[float]:
    return [value / base for value, base in zip(values, bases, strict=True)]


if __name__ == "__main__":
    main()
