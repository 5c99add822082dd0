"""How large a system has to be, simulated with the service times that the other benchmarks measured.

`Measured` names file and key of each. The simulated path of a job is checked against `routed.json`, `accept.json` and
`queue_tax.json`; only the accept's median is fitted. `docs/scaling.md` has the results.
"""

import argparse
import random

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.simulation.group import (
    POLL_S,
    POOL,
    SCHEDULE_S,
    SCRAPE_S,
    enough,
    p95_first_token,
    pooled,
    scaled,
)
from benchmarks.simulation.measured import SLOTS, TOKENS, Measured, figure, percentile
from benchmarks.simulation.plot import ADAPTERS, LOADS, LOADS_X, plot
from benchmarks.simulation.road import accepts, fitted, job_cost, ledger_p99, one_by_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    measured = fitted()
    parts = (validation, workers, cold_starts, splitting, redis_end)
    rows = [row for part in parts for row in part(measured)]
    print_table(rows)
    write_results("scale_sim", rows)
    plot(measured)


def validation(measured: Measured) -> list[Row]:
    """Simulated against measured figures; `sim_error_*` is the relative error."""
    road = one_by_one(measured, 100, score_s=measured.light_s)
    accepted = accepts(measured)
    tax = one_by_one(measured, 20)
    pairs = {
        "routed_p50_ms": (percentile(road.done, 0.5) * 1000, figure("routed", "routed_p50_ms")),
        "routed_ledger_commands": (road.calls["ledger"] / 100, figure("routed", "routed_ledger_commands")),
        "routed_broker_commands": (road.calls["broker"] / 100, figure("routed", "routed_broker_commands")),
        "accept_p99_ms": (percentile(accepted, 0.99) * 1000, figure("accept", "accept_p99_ms")),
        "queue_tax_p50_ms": (percentile(tax.done, 0.5) * 1000, figure("queue_tax", "queue_tax_p50_ms")),
    }
    fitted = row("sim_fsync_ms", measured.fsync_s * 1000, "ms", spread="fitted to the accept's p50")
    return [fitted, *(_beside(key, *pair) for key, pair in pairs.items())]


def _beside(key: str, simulated: float, real: float) -> Row:
    return row(
        f"sim_error_{key}", simulated / real - 1, "share", spread=f"simulated {simulated:.3g}, measured {real:.3g}"
    )


def workers(measured: Measured) -> list[Row]:
    """Number of workers that each load needs."""
    full = measured.tokens_per_s(SLOTS)
    beside = f"one job alone {measured.tokens_per_s(1):.0f}, with 32 slots {measured.tokens_per_s(32):.0f}"
    rows = [row("sim_worker_tokens_per_s", full, "tokens/s", spread=beside)]
    for per_s in LOADS:
        count = enough(measured, per_s)
        used = per_s * TOKENS / (count * full)
        rows.append(row(f"sim_workers_at_{per_s}_jobs_per_s", count, "workers", spread=f"{used:.0%} of what they can"))
    return rows


QUIET = (1, 4, 12, 30, 120)
"""Jobs an hour."""


def cold_starts(measured: Measured) -> list[Row]:
    """How long jobs wait when a group scales to zero, and how much pod time that saves."""
    whole = SCRAPE_S / 2 + POLL_S / 2 + SCHEDULE_S + measured.start_s
    rows = [row("sim_cold_start_s", whole, "s", spread="scrape and poll, pod, worker")]
    for per_hour in QUIET:
        hours = max(8.0, 400 / per_hour)
        group = scaled(measured, per_hour / 3600, floor=0, hours=hours)
        cold = sum(waited > SCHEDULE_S + measured.start_s for waited in group.first_token_s) / len(group.first_token_s)
        there = group.pod_s / (hours * 3600)
        rows.append(
            row(f"sim_cold_share_{per_hour}_per_hour", cold, "share", spread=f"a pod is there {there:.0%} of the time")
        )
    return rows


def splitting(measured: Measured) -> list[Row]:
    """Time to first token of four workers as four groups, relative to one group; with cache misses."""
    rows = []
    for adapters, slower in [*((n, 1) for n in ADAPTERS), *((256, x) for x in LOADS_X[1:])]:
        with_loads = measured._replace(load_s=measured.load_s * slower)
        p95, missed = {}, {}
        for groups in (1, POOL):
            made = pooled(with_loads, adapters, groups)
            p95[groups] = p95_first_token(made)
            missed[groups] = sum(one.misses for one in made) / sum(len(one.first_token_s) for one in made)
        key = f"sim_split_p95_x_{adapters}_adapters" + (f"_loads_{slower}x" if slower > 1 else "")
        spread = f"p95 {p95[1]:.2f} to {p95[POOL]:.2f} s, misses a job {missed[1]:.2f} to {missed[POOL]:.2f}"
        rows.append(row(key, p95[POOL] / p95[1], "x", spread=spread))
    return rows


def redis_end(measured: Measured) -> list[Row]:
    """Jobs per second at which the ledger's calls stay under 20 ms (p99), and the limits of the other parts."""
    rows = []
    for tokens in (0, TOKENS):
        limit = 1 / job_cost(measured, tokens)
        tried = [limit * share / 20 for share in range(1, 21)]
        good = [per_s for per_s in tried if ledger_p99(measured, per_s, tokens=tokens, seconds=2) < 0.02]
        name = "streamed" if tokens else "whole"
        rows.append(row(f"sim_ledger_jobs_per_s_{name}", max(good), "jobs/s", spread=f"its CPU ends at {limit:.0f}"))
    rows.append(row("sim_broker_jobs_per_s", 1 / measured.cpu_s["broker"], "jobs/s", spread="its CPU"))
    rows.append(row("sim_api_jobs_per_s", 1 / measured.cpu_s["api"], "jobs/s", spread="a process, its CPU"))
    selector_s = measured.cpu_s["selector"] + measured.llm_share * measured.llm_s
    rows.append(row("sim_selector_jobs_per_s", 1 / selector_s, "jobs/s", spread="a process, cascade"))
    return rows


if __name__ == "__main__":
    main()
