"""What a tenant at its byte budget costs another one: the other's accept latency without it and beside it, in turns.

The whole system with the echo engine and a small ledger. The greedy tenant sends long texts that hardly compress, as
fast as it is answered until it is refused, then 20 a second. The other's jobs arrive at random (Poisson), the same
without and beside it. A latency counts from when the arrival was due. Every accepted job has to succeed.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks.accept import Loop, percentile
from benchmarks.common import Row, print_table, row, write_results
from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from shared.contracts.jobs import JobState
from shared.ledger.keys import LedgerKey
from shared.names import DEFAULT_TENANT
from shared.security import api_keys
from tests.support.echo_release import echo_system, publish
from tests.support.eventually import eventually

HOG = "hog"
LEDGER_MIB = 128
CHARS = 30_000
HAN = (0x4E00, 0x9FFF)
CONNECTIONS = 16
HOG_PER_SECOND = 20
SPAWN = multiprocessing.get_context("spawn")


def main() -> None:
    """Fill the budget, measure in turns, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rate", type=float, default=40, help="the other tenant's arrivals a second")
    args = parser.parse_args()
    data = DemoData()
    with (
        tempfile.TemporaryDirectory() as name,
        echo_system(Path(name), data, ledger_mib=LEDGER_MIB) as (supervisor, _),
    ):
        (Path(name) / HOG).mkdir()
        publish(supervisor, Path(name) / HOG, data, HOG)
        rows = measure(supervisor, data.labels[0], args)
    print_table(rows)
    write_results("ledger_full", rows)


def measure(supervisor: Supervisor, label: str, args: argparse.Namespace) -> list[Row]:
    """The figures; the latencies of all turns together."""
    token, hog = (new_key(supervisor, tenant) for tenant in (DEFAULT_TENANT, HOG))
    before = {child.name: child.process.pid for child in supervisor.children if child.process}
    answers: Counter[int] = Counter()
    with greedy(supervisor.api_url, hog, label, answers):
        pass
    drive(supervisor, token, args.rate, 3)  # warms up
    alone, beside = [], []
    for _ in range(args.turns):
        alone.append(drive(supervisor, token, args.rate, args.seconds))
        with greedy(supervisor.api_url, hog, label, answers):
            beside.append(drive(supervisor, token, args.rate, args.seconds))
    ratio, spread = compared(alone, beside)
    lost, ended = outcomes(supervisor)
    restarted = [
        child.name for child in supervisor.children if child.process and before[child.name] != child.process.pid
    ]
    p99 = percentile([ms for loop in beside for ms in loop.latencies_ms], 99)
    told = f"hog: {dict(answers)}; others: {dict(sum((loop.statuses for loop in alone + beside), Counter()))}"
    return [
        row("ledger_full_others_ms", p99, "ms", spread=told),
        row("ledger_full_others_x", ratio, "x", spread=spread, goal=1.5, at_least=False),
        row("ledger_full_lost", lost, "", spread=f"of {ended}", goal=0, at_least=False),
        row("ledger_full_restarted", len(restarted), "", spread=", ".join(restarted), goal=0, at_least=False),
    ]


def compared(alone: list[Loop], beside: list[Loop]) -> tuple[float, str]:
    """The median over the turns of the ratio of their p99, and both sides."""
    pairs = [tuple(percentile(loop.latencies_ms, 99) for loop in pair) for pair in zip(alone, beside, strict=True)]
    told = ", ".join(f"{without:.1f} to {with_hog:.1f} ms" for without, with_hog in pairs)
    return statistics.median(with_hog / without for without, with_hog in pairs), told


def new_key(supervisor: Supervisor, tenant: str) -> str:
    return api_keys.create(supervisor.ledger.redis, frozenset({api_keys.Scope.SUBMIT}), tenant_id=tenant)[1]


def drive(supervisor: Supervisor, token: str, rate: float, seconds: float) -> Loop:
    """The other tenant's arrivals for some seconds."""

    async def run() -> Loop:
        loop = Loop(supervisor.settings.api_port, token)
        connections = [asyncio.create_task(loop.connection()) for _ in range(CONNECTIONS)]
        await loop.arrive(seconds, rate)
        loop.end(CONNECTIONS)
        await asyncio.gather(*connections)
        return loop

    return uvloop.run(run())


@contextmanager
def greedy(url: str, token: str, label: str, answers: Counter[int]) -> Iterator[None]:
    """The greedy tenant at work in a process of its own; at its budget from the beginning."""
    stop, accepted, refused = SPAWN.Event(), SPAWN.Value("i", 0), SPAWN.Value("i", 0)
    process = SPAWN.Process(target=be_greedy, args=(url, token, label, stop, accepted, refused))
    process.start()
    try:
        eventually(lambda: refused.value > 0, "the budget is used up", 300)
        yield
    finally:
        stop.set()
        process.join()
        answers.update({202: accepted.value, 429: refused.value})


def be_greedy(url: str, token: str, label: str, stop: Any, accepted: Any, refused: Any) -> None:
    """Send at an even pace."""
    chance = random.Random(5)
    words = ["".join(chr(chance.randint(*HAN)) for _ in range(3)) for _ in range(2 * CHARS)]
    texts = [" ".join(words[at : at + CHARS // 4]) for at in range(0, 8 * CHARS // 4, CHARS // 4)]
    bodies = [json.dumps({"input": text, "label": label, "params": {"max_new_tokens": 1}}).encode() for text in texts]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        while not stop.wait(1 / HOG_PER_SECOND if refused.value else 0):
            status = http.post("/v1/jobs", content=chance.choice(bodies)).status_code
            assert status in (202, 429), status
            (accepted if status == 202 else refused).value += 1


def outcomes(supervisor: Supervisor) -> tuple[int, int]:
    """How many of both tenants' jobs did not succeed, and how many there are."""
    redis = supervisor.ledger.redis
    ids = [job_id for tenant in (DEFAULT_TENANT, HOG) for job_id in redis.zrange(LedgerKey.JOBS.of(tenant), 0, -1)]

    def states() -> Counter[str]:
        return Counter(redis.hget(LedgerKey.JOB.of(job_id), "state") or "missing" for job_id in ids)

    eventually(lambda: not states().keys() & {"queued", "selecting", "routed", "running"}, "all jobs end", 300)
    return len(ids) - states()[JobState.SUCCEEDED], len(ids)


if __name__ == "__main__":
    main()
