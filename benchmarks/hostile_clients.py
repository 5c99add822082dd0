"""What clients that mean harm take from others: half requests and an endless header.

One API process on real servers. `/healthz` is asked on a new connection each time, from the attack's own address; the
attack runs in a process of its own. Latencies are those of whole calls, connecting included.
"""

import argparse
import http.client
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.common import Row, print_table, row, write_results
from services.cli.local.supervisor import Supervisor
from shared.settings import Settings
from tests.support.eventually import eventually
from tests.support.slow_connections import slow_connections

HALF_REQUESTS = 2000
GAP_SECONDS = 0.05


def main() -> None:
    """Attack, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_api(Path(folder)) as (url, api):
        rows = slow_rows(url, api, options.seconds)
    print_table(rows)
    write_results("hostile_clients", rows)


@contextmanager
def running_api(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The servers and the API alone; yields its URL and its process."""
    supervisor = Supervisor(Settings(data_dir=folder), [], selectors=0, trainers=0)
    try:
        supervisor.start()
        eventually(lambda: is_up(supervisor.api_url), "the API answers")
        (child,) = supervisor.children
        assert child.process is not None
        yield supervisor.api_url, psutil.Process(child.process.pid)
    finally:
        supervisor.stop()


def is_up(url: str) -> bool:
    """Whether the API answers."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def slow_rows(url: str, api: psutil.Process, seconds: float) -> list[Row]:
    """The health page's latency without and with the attack, and the API's share of a core under it."""
    alone = healthz_ms(url, seconds / 6)
    with slow_connections(urlsplit(url).port or 80, HALF_REQUESTS) as ended:
        began, used = time.monotonic(), sum(api.cpu_times()[:2])
        attacked = healthz_ms(url, seconds)
        cores = (sum(api.cpu_times()[:2]) - used) / (time.monotonic() - began)
    told = (
        f"{p95(alone):.1f} alone; max {max(attacked):.0f}, n={len(attacked)}; {cores:.2f} cores; ended: {dict(ended)}"
    )
    return [row("slow_header_healthz_ms", p95(attacked), "ms", spread=told, goal=100, at_least=False)]


def healthz_ms(url: str, seconds: float) -> list[float]:
    """Latencies of single calls, one after the other."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        assert is_up(url)
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(GAP_SECONDS)  # between two calls
    return found


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


if __name__ == "__main__":
    main()
