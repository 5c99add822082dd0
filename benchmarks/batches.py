"""A batch of 10,000 lines with a named label on the echo engine: how soon it is accepted, what its lines cost.

The CPU time is that of our processes and both Redis servers; this program's, which uploads and asks, is not counted.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from signalbox import Signalbox

from benchmarks.common import median_row, print_table, row, write_results
from benchmarks.routed import cpu_seconds
from services.cli.demo.data import DemoData
from services.cli.local.processes import peak_mib_of
from services.cli.local.supervisor import Supervisor
from tests.support.echo_release import echo_system

LABEL = "bank.cards"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    accepts, per_cpu, per_wall = [], [], []
    with tempfile.TemporaryDirectory() as folder, echo_system(Path(folder), DemoData()) as (supervisor, client):
        one(supervisor, client, 500)
        for _ in range(args.runs):
            accept, cpu, wall = one(supervisor, client, args.lines)
            accepts.append(accept)
            per_cpu.append(args.lines / cpu)
            per_wall.append(args.lines / wall)
        api, worker = (peak_mib_of(pid_of(supervisor, name)) for name in ("api", "api-worker"))
    rows = [
        median_row("batch_accept_s", accepts, "s", goal=5, at_least=False),
        median_row("batch_per_s", per_cpu, "1/CPU-s", goal=200),
        median_row("batch_per_wall_s", per_wall, "1/s"),
        row("batch_api_rss_mib", api, "MiB", goal=200, at_least=False),
        row("batch_worker_rss_mib", worker, "MiB", goal=200, at_least=False),
    ]
    print_table(rows)
    write_results("batches", rows)


def one(supervisor: Supervisor, client: Signalbox, count: int) -> tuple[float, float, float]:
    """Seconds until all lines are validated; CPU seconds and seconds until all are answered."""
    file = client.upload_file(jsonl(count), "rows.jsonl")
    cpu, began = cpu_seconds(supervisor), time.perf_counter()
    batch = client.create_batch(file.id)
    accepted = until(client, batch.id, {"in_progress", "finalizing", "completed"}) - began
    ended = until(client, batch.id, {"completed"}, 0.5) - began
    counts = client.batch(batch.id).request_counts
    if counts != {"total": count, "completed": count, "failed": 0}:
        raise RuntimeError(f"the batch ended with {counts}")
    return accepted, cpu_seconds(supervisor) - cpu, ended


def until(client: Signalbox, batch_id: str, states: set[str], seconds: float = 0.1) -> float:
    while True:
        status = client.batch(batch_id).status
        if status in states:
            return time.perf_counter()
        if status == "failed":
            raise RuntimeError(f"the batch failed: {client.batch(batch_id).errors}")
        time.sleep(seconds)  # between two polls


def jsonl(count: int) -> bytes:
    return "".join(f"{json.dumps(line(number))}\n" for number in range(count)).encode()


def line(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"my card was declined at restaurant {number}"}]
    body = {"model": LABEL, "messages": messages, "max_tokens": 16}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def pid_of(supervisor: Supervisor, name: str) -> int:
    child = next(child for child in supervisor.children if child.name == name)
    assert child.process
    return child.process.pid


if __name__ == "__main__":
    main()
