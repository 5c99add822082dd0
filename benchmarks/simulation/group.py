"""A group: workers with running batches, which take jobs from one queue, and the autoscaler that starts them."""

import bisect
import itertools
import math
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import simpy

from benchmarks.simulation.measured import SLOTS, TOKENS, Measured, percentile
from benchmarks.simulation.road import Events

ADAPTER_SLOTS = 64 // 2  # adapters of rank 16: two slots each
FIRST_TOKEN_GOAL_S = 2.0
SCRAPE_S = POLL_S = 5.0  # k8s/overlays/keda
COOLDOWN_S, DOWN_EVERY_S = 300.0, 60.0
SCHEDULE_S = 2.0  # assumed: an image on the node, a free place for the pod
POOL = 4
"""Workers that are one group, or as many groups as there are."""
BUSY = 0.7


class Job(NamedTuple):
    arrived: float
    adapter: int


@dataclass
class Group:
    """One queue and its workers; records times to first token and pod seconds."""

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
        """Let one worker end when it is idle."""
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
    """The fewest workers with which 95 % of jobs get their first token in time."""
    least = math.ceil(per_s * tokens / measured.tokens_per_s(SLOTS))
    for count in itertools.count(max(1, least)):
        group = simulate(measured, per_s, count, tokens=tokens)
        unserved = len(group.waiting) > SLOTS * count
        if not unserved and percentile(group.first_token_s, 0.95) <= FIRST_TOKEN_GOAL_S:
            return count
    raise AssertionError


def scaled(measured: Measured, per_s: float, *, floor: int, hours: float = 4, most: int = 8) -> Group:
    """A group under KEDA's rule: every few seconds as many workers as its jobs need, none when idle."""
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


def popularity(adapters: int) -> list[float]:
    """Shares of the traffic by a Zipf law: the n-th adapter is used 1/n as often as the first."""
    whole = sum(1 / n for n in range(1, adapters + 1))
    return [1 / n / whole for n in range(1, adapters + 1)]


def shared_out(shares: list[float], groups: int) -> list[int]:
    """The group of each adapter, such that all groups have about the same traffic."""
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


def p95_first_token(groups: list[Group]) -> float:
    return percentile([seconds for one in groups for seconds in one.first_token_s], 0.95)
