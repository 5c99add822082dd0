"""How large a system has to be, simulated with the service times that the other benchmarks measured.

`Measured` names file and key of each. The road of a job is held against `routed.json`, `accept.json` and
`queue_tax.json`, of whose latencies only the accept's median went in. `docs/scaling.md` has the answers.
"""

import argparse
import bisect
import itertools
import json
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import simpy

from benchmarks.common import RESULTS, Row, print_table, row, write_results

PLOT = Path(__file__).parents[1] / "docs" / "scaling.svg"
CPU_SPLIT_MS = {"api": 1.05, "selector": 1.25, "worker": 1.15, "ledger": 0.65, "broker": 0.13}
"""How the parts share a job's CPU time: `docs/performance.md`, its table, "after"; scaled to `routed_per_cpu_s`."""
SCRIPT_US, SCRIPT_COMMANDS, LEDGER_CALLS = 250, 50, 5
"""A job's ledger scripts, their commands and their number: `docs/performance.md`, "What the profile showed"."""
SLOTS, AHEAD = 8, 4  # worker_slots, worker_ahead
ADAPTER_SLOTS = 64 // 2  # adapters of rank 16: two slots each
TOKENS = 32
FIRST_TOKEN_GOAL_S = 2.0
SCRAPE_S = POLL_S = 5.0  # k8s/overlays/keda
COOLDOWN_S, DOWN_EVERY_S = 300.0, 60.0
SCHEDULE_S = 2.0  # assumed: an image on the node, a free place for the pod
Events = Generator[simpy.Event, Any, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    measured = Measured.read()
    parts = (validation, workers, cold_starts, splitting, redis_end)
    rows = [row for part in parts for row in part(measured)]
    print_table(rows)
    write_results("scale_sim", rows)
    plot(measured)


class Measured(NamedTuple):
    """Service times in seconds, from the results of other benchmarks."""

    step_s: float
    """A step of the engine, whatever its batch: `mixed_batch.json`, from batches of 8 and of 32."""
    row_s: float
    """What each row adds to a step; the computing of short prompts is in it."""
    cpu_s: dict[str, float]
    """A job's CPU time by part: `routed.json` `routed_per_cpu_s`, shared as `CPU_SPLIT_MS`."""
    accept_p50_s: float
    light_s: float
    llm_s: float
    llm_share: float
    load_s: float
    """An adapter from the disk into a slot: the engine's thread does nothing else meanwhile."""
    fetch_s: float
    canary_s: float
    start_s: float
    """A worker from its start to its first token."""
    fsync_s: float = 0.0
    """A forced write of the ledger; fitted to the accept's median."""

    @classmethod
    def read(cls) -> "Measured":
        eight, many = (
            SLOTS * TOKENS / figure("mixed_batch", "mixed8_tokens_per_s"),
            32 * TOKENS / figure("mixed_batch", "mixed_tokens_per_s"),
        )
        per_row = (many - eight) / (32 - SLOTS)
        scale = 1 / figure("routed", "routed_per_cpu_s") / sum(CPU_SPLIT_MS.values())
        rough = cls(
            step_s=(eight - SLOTS * per_row) / TOKENS,
            row_s=per_row / TOKENS,
            cpu_s={part: ms * scale for part, ms in CPU_SPLIT_MS.items()},
            accept_p50_s=note(figure("accept", "accept_p99_ms", "spread"), "p50 ") / 1000,
            light_s=figure("selector_score", "light_score_ms") / 1000,
            llm_s=figure("selector_score", "score_ms") / 1000,
            llm_share=figure("selectors", "cascade_llm_share"),
            load_s=figure("adapter_bank", "adapter_load_disk_ms") / 1000,
            fetch_s=figure("adapter_bank", "adapter_load_s3_ms") / 1000,
            canary_s=figure("adapter_bank", "adapter_canary_ms") / 1000,
            start_s=figure("worker_start", "worker_first_token_s"),
        )
        return rough._replace(fsync_s=fitted_fsync(rough))

    @property
    def call_s(self) -> float:
        """The ledger's CPU for one call."""
        return self.cpu_s["ledger"] / LEDGER_CALLS

    @property
    def piece_s(self) -> float:
        """The ledger's CPU for a piece of streamed text: three commands of a script (is it owned, two streams)."""
        return 3 * SCRIPT_US / SCRIPT_COMMANDS / 1e6

    def tokens_per_s(self, batch: int) -> float:
        return batch / (self.step_s + batch * self.row_s)


def figure(bench: str, key: str, column: str = "value") -> Any:
    """A figure of another benchmark, as it was last measured."""
    found = json.loads((RESULTS / f"{bench}.json").read_text())["rows"]
    return next(line[column] for line in found if line["key"] == key)


def note(spread: str, what: str) -> float:
    """A number out of a spread, `p50 2.6, max 21.5`."""
    return float(spread.partition(what)[2].partition(",")[0])


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else math.nan


# The road of a job: processes that hold one interpreter lock each, and a ledger that forces a group of writes to disk.


@dataclass
class Road:
    """API, selector, worker and broker, each one thing at a time, on the cores of one machine (None: on many)."""

    env: simpy.Environment
    measured: Measured
    cores: int | None = 2
    accepted: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.machine = simpy.Resource(self.env, self.cores or 10_000)
        self.parts = {part: simpy.Resource(self.env) for part in CPU_SPLIT_MS}
        self.ledger = Ledger(self.env, self.measured.fsync_s, self.machine)

    def work(self, part: str, share: float) -> Events:
        with self.parts[part].request() as turn:
            yield turn
            with self.machine.request() as core:
                yield core
                yield self.env.timeout(self.measured.cpu_s[part] * share)

    def ask(self) -> simpy.Event:
        self.calls["ledger"] += 1
        return self.ledger.call(self.measured.call_s)

    def send(self) -> Events:
        """`LPUSH` here, `BRPOP` there."""
        self.calls["broker"] += 2
        yield from self.work("broker", 0.5)

    def job(self, score_s: float = 0.0, generate_s: float = 0.0, client_s: float = 0.0) -> Events:
        """From the request leaving to the final event arriving."""
        began = self.env.now
        yield self.env.timeout(client_s)
        yield from self.work("api", 1)
        yield self.ask()
        self.accepted.append(self.env.now - began)
        for part, own_s in (("selector", score_s), ("worker", generate_s)):
            yield from self.send()
            yield from self.work(part, 0.5)
            yield self.ask()
            yield self.env.timeout(own_s)
            yield from self.work(part, 0.5)
            yield self.ask()
        yield self.env.timeout(client_s)
        self.done.append(self.env.now - began)


class Ledger:
    """One Redis with AOF `always`: what came since the last forced write is computed, forced, then answered."""

    def __init__(self, env: simpy.Environment, fsync_s: float, machine: simpy.Resource | None = None) -> None:
        self._env, self._fsync_s, self._machine = env, fsync_s, machine
        self._pending: list[tuple[float, simpy.Event]] = []
        self._wake = env.event()
        env.process(self._run())

    def call(self, cpu_s: float) -> simpy.Event:
        answered = self._env.event()
        self._pending.append((cpu_s, answered))
        if not self._wake.triggered:
            self._wake.succeed()
        return answered

    def _run(self) -> Events:
        while True:
            yield self._wake
            self._wake = self._env.event()
            batch, self._pending = self._pending, []
            if self._machine is None:
                yield self._env.timeout(sum(cpu_s for cpu_s, _ in batch))
            else:
                with self._machine.request() as core:
                    yield core
                    yield self._env.timeout(sum(cpu_s for cpu_s, _ in batch))
            yield self._env.timeout(self._fsync_s)
            for _, answered in batch:
                answered.succeed()
            if self._pending and not self._wake.triggered:
                self._wake.succeed()


def arrivals(env: simpy.Environment, per_s: float, until_s: float, begin: Callable[[], Events]) -> Events:
    while env.now < until_s:
        yield env.timeout(random.expovariate(per_s))
        env.process(begin())


def accepts(measured: Measured, per_s: float = 400, seconds: float = 10) -> list[float]:
    """Accept latencies of one API process at a load, as `accept.json` has them: nobody serves the queues."""
    env = simpy.Environment()
    road = Road(env, measured)

    def accept() -> Events:
        began = env.now
        yield from road.work("api", 1)
        yield road.ask()
        road.accepted.append(env.now - began)

    env.process(arrivals(env, per_s, seconds, accept))
    env.run(seconds + 1)
    return road.accepted


def fitted_fsync(measured: Measured) -> float:
    """The forced write with which the simulated accept has the measured median."""
    tried = [n / 20_000 for n in range(2, 80)]
    at = bisect.bisect_left(
        tried, measured.accept_p50_s, key=lambda s: percentile(accepts(measured._replace(fsync_s=s), seconds=3), 0.5)
    )
    return tried[min(at, len(tried) - 1)]


def one_by_one(measured: Measured, jobs: int, **times: float) -> Road:
    env = simpy.Environment()
    road = Road(env, measured)

    def client() -> Events:
        for _ in range(jobs):
            yield env.process(road.job(client_s=measured.cpu_s["api"], **times))

    env.run(env.process(client()))
    return road


def validation(measured: Measured) -> list[Row]:
    """What is simulated beside what was measured; `sim_error_*` is how far off it is."""
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


# A group: workers with running batches, which take jobs from one queue, and the autoscaler that starts them.


class Job(NamedTuple):
    arrived: float
    adapter: int


@dataclass
class Group:
    """One queue and its workers; what its jobs waited for their first token, and how long pods were there."""

    env: simpy.Environment
    measured: Measured
    tokens: int = TOKENS
    waiting: deque[Job] = field(default_factory=deque)
    first_token_s: list[float] = field(default_factory=list)
    misses: int = 0
    pod_s: float = 0.0
    running: int = 0
    _idle: list[simpy.Event] = field(default_factory=list)
    _leave: int = 0

    def submit(self, adapter: int = 0) -> None:
        self.waiting.append(Job(self.env.now, adapter))
        if self._idle:
            self._idle.pop().succeed()

    def leave(self) -> None:
        """One worker ends when it has nothing to do."""
        self._leave += 1
        if self._idle:
            self._idle.pop().succeed()

    def worker(self, start_s: float = 0.0) -> Events:
        """The engine's loop: take what fits, load what is missing, one token for every row."""
        yield self.env.timeout(start_s)
        rows: list[list[Any]] = []
        resident: OrderedDict[int, None] = OrderedDict()
        while True:
            while self.waiting and len(rows) < SLOTS:
                job = self.waiting.popleft()
                rows.append([self.tokens, job])
                yield self.env.timeout(self._load_s(resident, job.adapter))
            if not rows and self._leave:
                self._leave -= 1
                break
            if not rows:
                wake = self.env.event()
                self._idle.append(wake)
                yield wake
                continue
            self.running += len(rows)
            yield self.env.timeout(self.measured.step_s + len(rows) * self.measured.row_s)
            self.running -= len(rows)
            for one in rows:
                if one[0] == self.tokens:
                    self.first_token_s.append(self.env.now - one[1].arrived)
                one[0] -= 1
            rows = [one for one in rows if one[0]]

    def _load_s(self, resident: OrderedDict[int, None], adapter: int) -> float:
        if adapter in resident:
            resident.move_to_end(adapter)
            return 0.0
        self.misses += 1
        resident[adapter] = None
        if len(resident) > ADAPTER_SLOTS:
            resident.popitem(last=False)
        return self.measured.load_s


def simulate(measured: Measured, per_s: float, count: int, seconds: float = 90, tokens: int = TOKENS) -> Group:
    env = simpy.Environment()
    group = Group(env, measured, tokens)
    for _ in range(count):
        env.process(group.worker())
    env.process(feed(env, group, per_s, lambda: 0))
    env.run(seconds)
    return group


def feed(env: simpy.Environment, group: Group, per_s: float, adapter: Callable[[], int]) -> Events:
    while True:
        yield env.timeout(random.expovariate(per_s))
        group.submit(adapter())


def enough(measured: Measured, per_s: float, tokens: int = TOKENS) -> int:
    """The fewest workers with which the first token comes in time for 95 of 100 jobs."""
    least = math.ceil(per_s * tokens / measured.tokens_per_s(SLOTS))
    for count in itertools.count(max(1, least)):
        group = simulate(measured, per_s, count, tokens=tokens)
        unserved = len(group.waiting) > SLOTS * count
        if not unserved and percentile(group.first_token_s, 0.95) <= FIRST_TOKEN_GOAL_S:
            return count
    raise AssertionError


LOADS = (1, 2, 5, 10, 20, 40)


def workers(measured: Measured) -> list[Row]:
    """Workers for a load."""
    full = measured.tokens_per_s(SLOTS)
    beside = f"one job alone {measured.tokens_per_s(1):.0f}, with 32 slots {measured.tokens_per_s(32):.0f}"
    rows = [row("sim_worker_tokens_per_s", full, "tokens/s", spread=beside)]
    for per_s in LOADS:
        count = enough(measured, per_s)
        used = per_s * TOKENS / (count * full)
        rows.append(row(f"sim_workers_at_{per_s}_jobs_per_s", count, "workers", spread=f"{used:.0%} of what they can"))
    return rows


def scaled(measured: Measured, per_s: float, *, floor: int, hours: float = 4, most: int = 8) -> Group:
    """A group under KEDA's rule: as many workers as hold its jobs, asked for every few seconds, none when idle."""
    env = simpy.Environment()
    group = Group(env, measured)
    for _ in range(floor):
        env.process(group.worker())
    env.process(feed(env, group, per_s, lambda: 0))
    env.process(keda(env, group, floor, most))
    env.run(hours * 3600)
    return group


def keda(env: simpy.Environment, group: Group, floor: int, most: int) -> Events:
    busy_at, shrunk_at, pods = 0.0, 0.0, floor
    start_s = SCHEDULE_S + group.measured.start_s
    while True:
        yield env.timeout(POLL_S)
        group.pod_s += pods * POLL_S
        jobs = len(group.waiting) + group.running
        wanted = min(most, max(floor, math.ceil(jobs / SLOTS)))
        busy_at = env.now if jobs else busy_at
        if wanted > pods:
            for _ in range(wanted - pods):
                env.process(group.worker(start_s + random.uniform(0, SCRAPE_S)))
            pods = wanted
        elif wanted < pods and env.now - busy_at > COOLDOWN_S and env.now - shrunk_at > DOWN_EVERY_S:
            group.leave()
            pods, shrunk_at = pods - 1, env.now


QUIET = (1, 4, 12, 30, 120)
"""Jobs an hour."""


def cold_starts(measured: Measured) -> list[Row]:
    """What scaling to zero costs those who wait, and what it saves."""
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


ADAPTERS = (32, 64, 128, 256, 512)
POOL = 4
"""Workers that are one group, or as many groups as there are."""
BUSY = 0.7
LOADS_X = (1, 4, 16)
"""How much longer an adapter takes to load than measured: larger ones, or slower disks."""


def popularity(adapters: int) -> list[float]:
    """Shares of the traffic, some adapters asked for much more than others: the n-th 1/n as often as the first."""
    whole = sum(1 / n for n in range(1, adapters + 1))
    return [1 / n / whole for n in range(1, adapters + 1)]


def shared_out(shares: list[float], groups: int) -> list[int]:
    """A group for each adapter, so that all have about as much traffic."""
    loads, place = [0.0] * groups, []
    for share in shares:  # the largest first
        least = loads.index(min(loads))
        loads[least] += share
        place.append(least)
    return place


def pooled(measured: Measured, adapters: int, groups: int, seconds: float = 90) -> list[Group]:
    """The same workers and jobs, as one group or as several that share the adapters."""
    env = simpy.Environment()
    made = [Group(env, measured) for _ in range(groups)]
    shares = popularity(adapters)
    place, totals = shared_out(shares, groups), list(itertools.accumulate(shares))
    for one in made:
        for _ in range(POOL // groups):
            env.process(one.worker())

    def submit() -> Events:
        while True:
            yield env.timeout(random.expovariate(BUSY * POOL * measured.tokens_per_s(SLOTS) / TOKENS))
            adapter = min(adapters - 1, bisect.bisect_left(totals, random.random()))
            made[place[adapter]].submit(adapter)

    env.process(submit())
    env.run(seconds)
    return made


def splitting(measured: Measured) -> list[Row]:
    """First tokens of four workers as four groups, by those as one group; misses beside them."""
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


def p95_first_token(groups: list[Group]) -> float:
    return percentile([seconds for one in groups for seconds in one.first_token_s], 0.95)


# Where one Redis ends.


def ledger_p99(measured: Measured, per_s: float, *, tokens: int, seconds: float = 3.0) -> float:
    """The 99th percentile of a ledger call at a load of jobs; None of the processes around it is in the way."""
    env = simpy.Environment()
    ledger, took = Ledger(env, measured.fsync_s), []

    def call(cpu_s: float) -> Events:
        began = env.now
        yield ledger.call(cpu_s)
        took.append(env.now - began)

    env.process(arrivals(env, per_s * LEDGER_CALLS, seconds, lambda: call(measured.call_s)))
    if tokens:  # a worker's rows of one step travel in one call
        piece_s = measured.call_s + SLOTS * measured.piece_s
        env.process(arrivals(env, per_s * tokens / SLOTS, seconds, lambda: call(piece_s)))
    env.run(seconds)
    late = len(took) < 0.95 * seconds * per_s * (LEDGER_CALLS + tokens / SLOTS)
    return math.inf if late else percentile(took, 0.99)


def job_cost(measured: Measured, tokens: int) -> float:
    """The ledger's CPU seconds for a job whose text is streamed in so many tokens."""
    return measured.cpu_s["ledger"] + tokens * (measured.call_s / SLOTS + measured.piece_s)


def redis_end(measured: Measured) -> list[Row]:
    """Jobs a second up to which the ledger's calls take under 20 ms (p99), and what one of the others can do."""
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


def plot(measured: Measured) -> None:
    """The four answers in one picture."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "signalbox", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    figure_, ((top_left, top_right), (low_left, low_right)) = plt.subplots(2, 2, figsize=(10, 7))
    _plot_workers(top_left, measured)
    _plot_cold(top_right, measured)
    _plot_split(low_left, measured)
    _plot_redis(low_right, measured)
    figure_.tight_layout()
    figure_.savefig(PLOT, metadata={"Date": None})


def _plot_workers(axes: Any, measured: Measured) -> None:
    for tokens in (16, 32, 128):
        axes.plot(
            LOADS[:-1], [enough(measured, load, tokens) for load in LOADS[:-1]], marker="o", label=f"{tokens} tokens"
        )
    axes.set(title="Workers, first token in 2 s (p95)", xlabel="jobs a second", ylabel="workers", xscale="log")
    axes.legend()


def _plot_cold(axes: Any, measured: Measured) -> None:
    group = scaled(measured, 30 / 3600, floor=0, hours=24)
    kept = scaled(measured, 30 / 3600, floor=1, hours=24)
    for made, label in ((group, "down to none"), (kept, "one kept")):
        waits = sorted(made.first_token_s)[::4]
        axes.plot(waits, [n / len(waits) for n in range(len(waits))], label=label)
    axes.set(title="First token at 30 jobs an hour", xlabel="seconds", ylabel="share of jobs", xscale="log")
    axes.legend()


def _plot_split(axes: Any, measured: Measured) -> None:
    for slower in LOADS_X:
        with_loads = measured._replace(load_s=measured.load_s * slower)
        load_ms = with_loads.load_s * 1000
        for groups, style in ((1, "-"), (POOL, "--")):
            p95 = [p95_first_token(pooled(with_loads, count, groups, 60)) for count in ADAPTERS]
            label = f"{groups} group{'s' if groups > 1 else ''}, {load_ms:.0f} ms a load"
            axes.plot(ADAPTERS, p95, style, color=f"C{LOADS_X.index(slower)}", marker=".", label=label)
    axes.set(title=f"{POOL} workers, 70 % busy", xlabel="adapters", ylabel="first token, p95 s", xscale="log")
    axes.set_yscale("log")
    axes.set_ylim(top=40)
    axes.legend(fontsize="small", ncol=2, loc="upper left")


def _plot_redis(axes: Any, measured: Measured) -> None:
    for tokens, label in ((0, "whole answers"), (TOKENS, f"{TOKENS} tokens streamed")):
        limit = 1 / job_cost(measured, tokens)
        loads = [limit * share / 12 for share in range(1, 13)]
        points = [(load, ledger_p99(measured, load, tokens=tokens, seconds=2) * 1000) for load in loads]
        axes.plot(*zip(*[p for p in points if p[1] < 100], strict=True), marker=".", label=label)
    axes.set(title="One ledger", xlabel="jobs a second", ylabel="a call, p99 ms", yscale="log")
    axes.legend()


if __name__ == "__main__":
    main()
