"""What clients that list large jobs take from others: how long a job is accepted beside four that list without a pause.

One API process on real servers, 200 jobs of 32,000 signs of four bytes: 25 MB where a list holds their requests, as
every list did once. The listing clients are processes of their own; another tenant's jobs are submitted one after the
other, with a short gap.
"""

import argparse
import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.hostile_clients import GAP_SECONDS, p95, running_api
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT, SELECT_QUEUE
from shared.security import api_keys
from tests.support.api import make_release

CLIENTS = 4
JOBS = 200
INPUT = "\N{MUSICAL SYMBOL G CLEF}" * 32_000
PATH = f"/v1/jobs?limit={JOBS}"
OTHER_TENANT = "other"
FILTERS = {"summaries": "", "requests": "&include=request"}


def main() -> None:
    """List, submit beside it, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of submissions, per figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_api(Path(folder)) as (supervisor, _):
        rows = list_rows(supervisor, options.seconds)
    print_table(rows)
    write_results("hostile_lists", rows)


def list_rows(supervisor: Supervisor, seconds: float) -> list[Row]:
    """How long accepting takes alone, and beside lists without and with the requests."""
    key, other_key = announce(supervisor), seed(supervisor)
    other = Api(supervisor.api_url, other_key)
    other.accept_ms(2)  # warms up
    alone = p95(other.accept_ms(seconds))
    beside, sizes = {}, {}
    for name, more in FILTERS.items():
        sizes[name] = len(Api(supervisor.api_url, key).ask("GET", PATH + more)) / 1e6
        with listing(supervisor.api_url, key, PATH + more):
            other = Api(supervisor.api_url, other_key)  # an idle connection is closed after a while
            beside[name] = p95(other.accept_ms(seconds))
    told = "; ".join(f"{name} {beside[name]:.1f} ms, {sizes[name]:.2f} MB an answer" for name in FILTERS)
    return [
        row("accept_alone_p95_ms", alone, "ms"),
        row("accept_beside_lists_p95_ms", beside["summaries"], "ms", spread=told),
        row("accept_beside_lists_of_requests_p95_ms", beside["requests"], "ms"),
    ]


def seed(supervisor: Supervisor) -> str:
    """Large jobs that no worker takes, and another tenant's release and key; returns the key."""
    ledger, release = supervisor.ledger, make_release(tenant_id=OTHER_TENANT)
    ledger.redis.hset(LedgerKey.RELEASES.of(OTHER_TENANT), release.id, release.model_dump_json())
    ledger.redis.set(LedgerKey.RELEASE.of(OTHER_TENANT), release.id)
    for _ in range(JOBS):
        job = NewJob(
            id=new_job_id(DEFAULT_TENANT), tenant_id=DEFAULT_TENANT, kind=JobKind.GENERATE, stage=Stage.SELECT,
            queue=SELECT_QUEUE, body={"input": INPUT},
        )  # fmt: skip
        ledger.do(calls.create(job, 3600))
    return api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}), tenant_id=OTHER_TENANT)[1]


class Api:
    """One connection to the API."""

    def __init__(self, url: str, key: str) -> None:
        self._key = key
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """Send a request; returns the body of its answer."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        self._connection.request(method, path, json.dumps(body) if body else None, headers)
        with self._connection.getresponse() as answer:
            assert answer.status < 300, answer.read()
            return answer.read()

    def accept_ms(self, seconds: float) -> list[float]:
        """Latencies of accepted jobs, one after the other."""
        found = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            self.ask("POST", "/v1/jobs", {"input": "x", "label": "fin.sa"})
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(GAP_SECONDS)  # between two calls
        return found


@contextlib.contextmanager
def listing(url: str, key: str, path: str) -> Iterator[None]:
    """Clients that list without a pause, meanwhile; each has had its first answer."""
    context = get_context("spawn")
    begun = context.Semaphore(0)
    clients = [context.Process(target=list_without_end, args=(url, key, path, begun)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for _ in clients:
            assert begun.acquire(timeout=120)
        yield
        assert all(client.is_alive() for client in clients)
    finally:
        for client in clients:
            client.kill()
            client.join()


def list_without_end(url: str, key: str, path: str, begun: Semaphore) -> None:
    """List until the process is ended."""
    api = Api(url, key)
    api.ask("GET", path)
    begun.release()
    while True:
        api.ask("GET", path)


if __name__ == "__main__":
    main()
