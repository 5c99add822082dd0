"""Simulates a job's path: processes with one interpreter lock each, and a ledger that fsyncs writes in groups."""

import bisect
import math
import random
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from benchmarks.simulation.measured import CPU_SPLIT_MS, LEDGER_CALLS, SLOTS, Measured, percentile

Events = Generator[simpy.Event, Any, None]


@dataclass
class Road:
    """API, selector, worker and broker, each doing one thing at a time, on one machine's cores (None: unlimited)."""

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

    def call_ledger(self) -> simpy.Event:
        self.calls["ledger"] += 1
        return self.ledger.call(self.measured.call_s)

    def send(self) -> Events:
        """Send a message: `LPUSH` by the sender, `BRPOP` by the receiver."""
        self.calls["broker"] += 2
        yield from self.work("broker", 0.5)

    def job(self, score_s: float = 0.0, generate_s: float = 0.0, client_s: float = 0.0) -> Events:
        """From the request leaving to the final event arriving."""
        began = self.env.now
        yield self.env.timeout(client_s)
        yield from self.work("api", 1)
        yield self.call_ledger()
        self.accepted.append(self.env.now - began)
        for part, own_s in (("selector", score_s), ("worker", generate_s)):
            yield from self.send()
            yield from self.work(part, 0.5)
            yield self.call_ledger()
            yield self.env.timeout(own_s)
            yield from self.work(part, 0.5)
            yield self.call_ledger()
        yield self.env.timeout(client_s)
        self.done.append(self.env.now - began)


class Ledger:
    """One Redis with AOF `always`: it computes the calls since the last fsync, fsyncs, then answers them."""

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
    """Accept latencies of one API process at a load, as in `accept.json`: no consumer serves the queues."""
    env = simpy.Environment()
    road = Road(env, measured)

    def accept() -> Events:
        began = env.now
        yield from road.work("api", 1)
        yield road.call_ledger()
        road.accepted.append(env.now - began)

    env.process(arrivals(env, per_s, seconds, accept))
    env.run(seconds + 1)
    return road.accepted


def fitted() -> Measured:
    """The measured times, with the fsync time for which the simulated accept has the measured median."""
    measured = Measured.read()
    tried = [n / 20_000 for n in range(2, 80)]
    at = bisect.bisect_left(
        tried, measured.accept_p50_s, key=lambda s: percentile(accepts(measured._replace(fsync_s=s), seconds=3), 0.5)
    )
    return measured._replace(fsync_s=tried[min(at, len(tried) - 1)])


def one_by_one(measured: Measured, jobs: int, **times: float) -> Road:
    env = simpy.Environment()
    road = Road(env, measured)

    def client() -> Events:
        for _ in range(jobs):
            yield env.process(road.job(client_s=measured.cpu_s["api"], **times))

    env.run(env.process(client()))
    return road


def job_cost(measured: Measured, tokens: int) -> float:
    """The ledger's CPU seconds for a job that streams `tokens`."""
    return measured.cpu_s["ledger"] + tokens * (measured.call_s / SLOTS + measured.piece_s)


def ledger_p99(measured: Measured, per_s: float, *, tokens: int, seconds: float = 3.0) -> float:
    """The 99th percentile of a ledger call at a load of jobs; the processes around it add no delay."""
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
