"""A worker from its start to its first token: four adapters from S3, no local copy of them, the model in page cache."""

import argparse
import shutil
import signal
import time

from benchmarks.common import median_row, print_table, write_results
from benchmarks.system import Running, demo_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with demo_system(workers=("bank,travel,base",)) as running:
        seconds = [start(running) for _ in range(args.runs)]
    rows = [median_row("worker_first_token_s", seconds, "s", goal=20, at_least=False)]
    print_table(rows)
    write_results("worker_start", rows)


def start(running: Running) -> float:
    """Kill the worker, forget its adapters, and time from the new process's start to its first token."""
    worker = next(child for child in running.supervisor.children if child.name.startswith("worker"))
    label = running.data.first_labels[0]
    worker.end(signal.SIGKILL)
    shutil.rmtree(running.supervisor.settings.cache_dir / "adapters")
    restarts = worker.restarts
    body = {"input": "what is my balance", "label": label, "params": {"max_new_tokens": 4}}
    job_id = running.client.post("/v1/jobs", body)["id"]
    while worker.restarts == restarts:
        time.sleep(0.005)  # the supervisor starts it; the clock begins when it has
    began = time.perf_counter()
    for event in running.client.events(f"/v1/jobs/{job_id}/events"):
        if event.type == "token":
            return time.perf_counter() - began
    raise RuntimeError("the job ended without a token")


if __name__ == "__main__":
    main()
