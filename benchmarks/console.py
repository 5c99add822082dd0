"""The console: server time of every page with 10,000 jobs, what a first visit transfers, what 50 viewers cost.

A page's time goes from the request leaving to the whole answer, one request at a time, without a browser. The first
visit is the form to sign in and the first page with all their files, compressed as browsers ask for them. Viewers read
the stream of the page Live of a system that has nothing to do.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx
import psutil

from benchmarks.batches import one as run_batch
from benchmarks.batches import pid_of
from benchmarks.common import Row, median_row, print_table, row, write_results
from benchmarks.routed import busy
from services.api.console.rendering import PLACES
from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.echo_release import echo_system

JOBS, ROUTED = 10_000, 2_000
VIEWERS = 50
_ASSET = re.compile(r'"(/console/static/[^"]+)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--visits", type=int, default=20, help="of each page")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which viewers look on")
    args = parser.parse_args()
    data = DemoData()
    with tempfile.TemporaryDirectory() as folder, echo_system(Path(folder), data) as (supervisor, client):
        busy(supervisor, client, [line.text for line in islice(data.stream(), 200)], min(ROUTED, args.jobs))
        if args.jobs > ROUTED:
            run_batch(supervisor, client, args.jobs - ROUTED)
        with visitor(supervisor) as browser:
            pages = {path: times(browser, path, args.visits) for path in paths(supervisor)}
            kb = first_visit(supervisor) / 1000
        share = asyncio.run(viewers_cost(supervisor, args.seconds))
    rows: list[Row] = [
        row("console_ms_p95", max(p95(took) for took in pages.values()), "ms", goal=100, at_least=False),
        *(median_row(f"console_ms_{name(path)}", took, "ms") for path, took in pages.items()),
        row("console_kb", kb, "kB", goal=200, at_least=False),
        row("console_live_cpu", share, "of a core", goal=0.1, at_least=False),
    ]
    print_table(rows)
    write_results("console", rows)


def paths(supervisor: Supervisor) -> list[str]:
    """Return the addresses of all pages under `/console`, with a job and a release that there are."""
    job = supervisor.ledger.do(calls.list_jobs(DEFAULT_TENANT, limit=1)).jobs[0].id
    release = str(supervisor.ledger.redis.get(LedgerKey.RELEASE.of(DEFAULT_TENANT)))
    places = [place.path for place in PLACES]
    return [*places, f"jobs/{job}", f"releases/{release}"]


def name(path: str) -> str:
    place, _, one = path.partition("/")
    return f"one_of_{place}" if one else place


@contextmanager
def visitor(supervisor: Supervisor) -> Iterator[httpx.Client]:
    """A browser that has signed in with an administrator's key."""
    _, token = api_keys.create(supervisor.ledger.redis, frozenset({Scope.ADMIN}))
    with httpx.Client(base_url=f"{supervisor.api_url}/console/", timeout=60) as browser:
        browser.post("sign-in", data={"key": token})
        yield browser


def times(browser: httpx.Client, path: str, visits: int) -> list[float]:
    """Milliseconds of each visit; the first is not counted."""
    took = []
    for _ in range(visits + 1):
        began = time.perf_counter()
        browser.get(path).raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
    return took[1:]


def p95(took: list[float]) -> float:
    return statistics.quantiles(took, n=20)[-1]


def first_visit(supervisor: Supervisor) -> int:
    """Bytes on the wire of the form, the first page and all files that these name."""
    with visitor(supervisor) as browser:
        bodies = [browser.get(path).text for path in ("sign-in", "live")]
        files = {found for body in bodies for found in _ASSET.findall(body)}
        return sum(len(body.encode()) for body in bodies) + sum(transferred(browser, file) for file in files)


def transferred(browser: httpx.Client, path: str) -> int:
    with browser.stream("GET", path) as answer:
        return sum(len(part) for part in answer.iter_raw())


async def viewers_cost(supervisor: Supervisor, seconds: float) -> float:
    """Share of a core that the API takes while so many pages are open and nothing happens."""
    with visitor(supervisor) as browser:
        cookies = dict(browser.cookies)
    async with httpx.AsyncClient(base_url=f"{supervisor.api_url}/console/", cookies=cookies, timeout=None) as http:

        async def look() -> None:
            while True:
                async with http.stream("GET", "live/stream") as stream:
                    async for _ in stream.aiter_raw():
                        pass

        viewers = [asyncio.create_task(look()) for _ in range(VIEWERS)]
        await asyncio.sleep(5)  # all have their first parts
        process = psutil.Process(pid_of(supervisor, "api"))
        before, began = process.cpu_times(), time.perf_counter()
        await asyncio.sleep(seconds)  # what is measured
        after, took = process.cpu_times(), time.perf_counter() - began
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)
    return (after.user + after.system - before.user - before.system) / took


if __name__ == "__main__":
    main()
