"""Clients that want their jobs in: each is posted until it is accepted, and what was accepted must not be lost."""

import itertools
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from tests.chaos.world import FINAL, World, until

RETRY_SECONDS = 0.2
AGAIN = {409, 429, 503}


class Load:
    """Threads that post `body(number)` for number 0, 1, 2 and so on, at `per_second` where it is given."""

    def __init__(
        self,
        world: World,
        body: Callable[[int], dict[str, Any]],
        *,
        count: int | None = None,
        per_second: float | None = None,
        threads: int = 4,
    ) -> None:
        self.accepted: dict[int, str] = {}
        self.refused: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._world = world
        self._body = body
        self._numbers: Iterator[int] = iter(range(count)) if count is not None else itertools.count()
        self._every_seconds = 1 / per_second if per_second else 0.0
        self._began = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._name = secrets.token_hex(4)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Load":
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join()

    @property
    def ids(self) -> list[str]:
        """Every accepted job."""
        return [self.accepted[number] for number in sorted(self.accepted)]

    @property
    def is_done(self) -> bool:
        """Whether all were posted."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float | None = None) -> bool:
        """Wait until all are accepted; answers whether they are."""
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return self.is_done

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._world.key}"}
        with httpx.Client(base_url=self._world.supervisor.api_url, headers=headers, timeout=30) as http:
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers, None)
                if number is None:
                    return
                self._stop.wait(max(0.0, self._began + number * self._every_seconds - time.monotonic()))
                self._post(http, number)

    def _post(self, http: httpx.Client, number: int) -> None:
        body, key = self._body(number), {"Idempotency-Key": f"{self._name}-{number}"}
        while not self._stop.is_set() or number in self.accepted:
            try:
                answer = http.post("/v1/jobs", json=body, headers=key)
            except httpx.TransportError:
                self._stop.wait(RETRY_SECONDS)
                continue
            with self._lock:
                self.statuses[answer.status_code] += 1
            if answer.status_code == 202:
                self.accepted[number] = answer.json()["id"]
                return
            if answer.status_code not in AGAIN:
                self.refused.append(answer.text)
                return
            self._stop.wait(RETRY_SECONDS)


def outcomes(world: World, job_ids: list[str], patience_seconds: float) -> Counter[str]:
    """What became of accepted jobs, as the API says once all have ended or the patience is over.

    Beside the states: `missing` for a job that the API does not know, `unended` for one that still waits or runs.
    """
    world.wait_ended(job_ids, patience_seconds)
    until(world.is_serving_http, patience_seconds)  # it may have been the last to be killed
    shown = world.jobs(job_ids)
    found = Counter("missing" if job is None else job["state"] for job in shown)
    ended = Counter({state: count for state, count in found.items() if state in FINAL or state == "missing"})
    unended = sum(found.values()) - sum(ended.values())
    return ended + Counter({"unended": unended})


def lost(found: Counter[str]) -> int:
    """All that did not succeed: a dead letter is no success either."""
    return sum(found.values()) - found["succeeded"]


def spread(found: Counter[str]) -> str:
    """The outcomes as the results' `spread`."""
    return ", ".join(f"{count} {state}" for state, count in sorted(found.items()) if count)
