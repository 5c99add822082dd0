"""2: a worker that freezes past its lease and wakes up changes nothing that readers see."""

import signal
import threading
import time
from typing import Any

import redis

from shared.ledger.keys import LedgerKey
from tests.chaos.histories import faults_of
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, SECONDS_PER_WORD, Plan, World, until

_JOBS_PER_WORKER = 3
_TAKEN_SECONDS = 3.0
"""How long after the lease another worker may take to have the jobs; the supervisor kills what is silent longer."""


def plan(size: Size) -> Plan:
    """Jobs of several seconds, so that a worker wakes up while the next attempt runs."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
        max_lost_leases=size.max_lost_leases,
    )


def prove(world: World, size: Size) -> Outcome:
    """Freeze busy workers past their lease, wake them while others hold their jobs, and read every stream."""

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        params = {"max_new_tokens": 2 * size.words, "temperature": 0.7, "seed": number}
        return {"input": text_for(label, number, size.words), "label": label, "params": params}

    # Far less than the workers that are awake can do: what was lost finds one at once.
    awake = max(1, size.workers - size.at_once)
    freezer = Freezer(world, size)
    with Load(world, body, per_second=awake * _JOBS_PER_WORKER / (size.words * SECONDS_PER_WORD)) as load:
        freezer.run()
    found = outcomes(world, load.ids, size.patience_seconds)
    wrong = [
        fault
        for job_id, job in zip(load.ids, world.jobs(load.ids), strict=True)
        for fault in faults_of(world.events(job_id), (job or {}).get("result"))
    ]
    outcome = Outcome({"freezes": freezer.count, "jobs_taken_from_frozen": freezer.taken, "jobs": len(load.ids)})
    outcome.at_least("freezes_past_the_lease", freezer.count, size.freezes)
    outcome.at_most("stale_or_doubled_writes", len(wrong), 0, spread="; ".join(sorted(set(wrong))))
    outcome.at_most("jobs_of_frozen_workers_lost", lost(found), 0, spread=spread(found))
    return outcome


class Freezer:
    """Freezes workers, `at_once` at a time, until `freezes` of them lost a job to another attempt meanwhile."""

    def __init__(self, world: World, size: Size) -> None:
        self.count = 0
        self.taken = 0
        self._world = world
        self._size = size
        self._until = time.monotonic() + size.seconds
        self._frozen: set[str] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Return when all are done, or the time is over."""
        threads = [threading.Thread(target=self._go_on) for _ in range(min(self._size.at_once, self._size.freezes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _go_on(self) -> None:
        while self.count < self._size.freezes and time.monotonic() < self._until:
            try:
                child, held = self._choose()
            except redis.RedisError:
                continue
            if not held:
                threading.Event().wait(0.1)
                continue
            child.end(signal.SIGSTOP)
            try:
                limit = self._size.lease_seconds + _TAKEN_SECONDS
                was_taken = until(lambda held=held: self._taken(held), limit)
            finally:
                child.end(signal.SIGCONT)
            with self._lock:
                self._frozen.discard(child.name)
                self.count += bool(was_taken)
                self.taken += self._taken(held)

    def _choose(self) -> tuple[Any, dict[str, str]]:
        """A busy worker and its jobs with their attempts."""
        with self._lock:
            awake = [child for child in self._world.present(self._world.workers) if child.name not in self._frozen]
            self._world.random.shuffle(awake)
            for child in awake:
                held = {job_id: self._attempt(job_id) for job_id in self._world.held_by(child)}
                if held:
                    self._frozen.add(child.name)
                    return child, held
        return None, {}

    def _taken(self, held: dict[str, str]) -> int:
        """How many of these jobs another attempt has now."""
        return sum(self._attempt(job_id) != attempt for job_id, attempt in held.items())

    def _attempt(self, job_id: str) -> str:
        return self._world.redis.hget(LedgerKey.JOB.of(job_id), "attempt") or ""


PROMISE = Promise(2, "At-least-once run, exactly-once visible effect", plan, prove)
