"""The queue tax: a routed job's latency without selecting and generating, on an idle system, measured by the client."""

import argparse
import itertools
import time

from benchmarks.common import median_row, print_table, write_results
from benchmarks.system import Running, demo_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60)
    args = parser.parse_args()
    with demo_system() as running:
        samples = [one(running, text) for text in texts(running, args.jobs + 10)][10:]  # the first ones warm up
    taxes, wholes = [tax for tax, _ in samples], [whole for _, whole in samples]
    p95 = sorted(taxes)[int(0.95 * len(taxes))]
    rows = [
        median_row("queue_tax_p50_ms", taxes, "ms", goal=25, at_least=False),
        median_row("queue_tax_p95_ms", [p95], "ms"),
        median_row("routed_whole_p50_ms", wholes, "ms"),
    ]
    print_table(rows)
    write_results("queue_tax", rows)


def texts(running: Running, count: int) -> list[str]:
    """Held-out texts of the demo's labels."""
    return [row.text for row in itertools.islice(running.data.stream(), count)]


def one(running: Running, text: str) -> tuple[float, float]:
    """Milliseconds of tax and of the whole, from the request leaving to the final event arriving."""
    started = time.perf_counter()
    job_id = running.client.post("/v1/jobs", {"input": text, "params": {"max_new_tokens": 8}})["id"]
    for _ in running.client.events(f"/v1/jobs/{job_id}/events"):
        pass
    whole = (time.perf_counter() - started) * 1000
    job = running.client.get(f"/v1/jobs/{job_id}")
    return whole - job["selection"]["score_ms"] - job["result"]["generate_ms"], whole


if __name__ == "__main__":
    main()
