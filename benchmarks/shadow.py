"""What a shadow costs: CPU time of the selector with a candidate reading every request along, against none.

The light selector, the echo engine, real queues and ledger, many jobs at once; runs with and without go by turns.
"""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import psutil
from signalbox import Signalbox

from benchmarks.batches import pid_of
from benchmarks.common import median_row, print_table, write_results
from benchmarks.routed import busy
from services.cli.demo.data import DemoData
from services.cli.local.supervisor import Supervisor
from tests.support.echo_release import echo_system
from tests.support.eventually import eventually


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="per run")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    data = DemoData()
    texts = [line.text for line in islice(data.stream(), 300)]
    with tempfile.TemporaryDirectory() as folder, echo_system(Path(folder), data) as (supervisor, client):
        candidate = client.edit_release(threshold=0.21)
        busy(supervisor, client, texts, 300)
        ratios, alone, along = [], [], []
        for _ in range(args.runs):
            alone.append(per_job_ms(supervisor, client, texts, args.jobs))
            rollout = shadowed(client, candidate.id)
            along.append(per_job_ms(supervisor, client, texts, args.jobs))
            client.abort_rollout(rollout)
            eventually(lambda rollout=rollout: client.rollout(rollout).state == "aborted", "the rollout is over")
            ratios.append(along[-1] / alone[-1])
    rows = [
        median_row("shadow_cost_x", ratios, "x", goal=2.1, at_least=False),
        median_row("selector_ms_per_job", alone, "CPU ms"),
        median_row("selector_with_shadow_ms_per_job", along, "CPU ms"),
    ]
    print_table(rows)
    write_results("shadow", rows)


def shadowed(client: Signalbox, release: str) -> str:
    """Begin a shadow that reads every request, for as long as it takes."""
    steps = [{"percent": 100, "seconds": 3600, "requests": 1_000_000}]
    begun = client.begin_rollout(release, strategy="shadow", steps=steps, force=True)
    eventually(lambda: client.rollout(begun.id).state == "running", "the rollout runs")
    return begun.id


def per_job_ms(supervisor: Supervisor, client: Signalbox, texts: list[str], count: int) -> float:
    """Milliseconds of the selector's CPU time per job."""
    process = psutil.Process(pid_of(supervisor, "selector-1"))
    before = process.cpu_times()
    busy(supervisor, client, texts, count)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / count * 1000


if __name__ == "__main__":
    main()
