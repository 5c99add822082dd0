"""The jobs that a process holds: one thread renews their leases, and tells a job when it has to stop."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import structlog

from shared.contracts.jobs import Job
from shared.errors import Cancelled, Unavailable
from shared.ledger import Ledger, calls
from shared.settings import Settings

log = structlog.get_logger()
StopReason = Literal["cancel", "stale", "drain"]

STUCK_SECONDS = 120.0
"""A process counts as stuck if its lease thread makes no turn for so long; a missing ledger delays one by seconds."""


class HeldJob:
    """A job under a live lease; its `on_stop` callback is called once, by another thread, when the work has to stop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reason: StopReason | None = None
        self._stop_requested = threading.Event()
        self._on_stop: Callable[[], Any] = lambda: None
        self._lock = threading.Lock()

    @property
    def must_stop(self) -> bool:
        """Whether the work has to stop."""
        return self.reason is not None

    def on_stop(self, act: Callable[[], Any]) -> None:
        """Set the callback that stops the work; it is called at once if the work has to stop already."""
        with self._lock:
            self._on_stop = act
            is_late = self.must_stop
        if is_late:
            act()

    def stop(self, reason: StopReason) -> None:
        """Request a stop; a later request does not change the reason."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            self._stop_requested.set()
            act = self._on_stop
        act()

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`; raises `Cancelled` as soon as the work has to stop."""
        self._stop_requested.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise `Cancelled` if the work has to stop."""
        if self.must_stop:
            raise Cancelled("cancelled", f"job {self.job.id} was stopped ({self.reason})")


class LeaseKeeper:
    """One thread per process that renews every held lease, and the process's presence in its queues."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        *,
        owner: str,
        queues: Sequence[str],
        info: Callable[[], dict[str, Any]],
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._queues = queues
        self._info = info
        self._every_seconds = settings.heartbeat_seconds
        self.lease_seconds = settings.lease_seconds
        self._turned_at = self._noted_at = -math.inf
        self._held: dict[str, HeldJob] = {}
        self._is_draining = False
        self._lock = threading.Lock()  # guards the two above
        self._stop = threading.Event()

    def start(self) -> None:
        """Announce the process, at once or when the ledger takes writes, then send heartbeats in the background."""
        try:
            self._beat()
        except Unavailable as error:
            if error.code != "ledger_full":
                raise
            self._turned_at = time.monotonic()
            log.warning("heartbeat_failed", error=error.detail)
        threading.Thread(target=self._run, name="lease-keeper", daemon=True).start()

    def close(self) -> None:
        """Leave the queues."""
        self._stop.set()
        with contextlib.suppress(Unavailable):
            self._ledger.do(calls.leave_queues(self._owner, self._queues))

    @property
    def is_turning(self) -> bool:
        """Whether the thread makes its turns; this does not depend on the ledger."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    @property
    def is_present(self) -> bool:
        """Whether the process is a consumer of its queues: its last heartbeat is recent, and it is not closing."""
        return not self._stop.is_set() and time.monotonic() - self._noted_at < self.lease_seconds

    @contextlib.contextmanager
    def hold(self, job: Job) -> Iterator[HeldJob]:
        """Renew this job's lease during the block; an older attempt in this process has lost its lease."""
        lease = HeldJob(job)
        with self._lock:
            older = self._held.get(job.id)
            self._held[job.id] = lease
            is_draining = self._is_draining
        if older:
            older.stop("stale")
        if is_draining:  # acquired after the drain deadline
            lease.stop("drain")
        try:
            yield lease
        finally:
            with self._lock:
                if self._held.get(job.id) is lease:
                    del self._held[job.id]

    @property
    def held_count(self) -> int:
        """Number of jobs held now."""
        return len(self._held)

    def stop_job(self, job_id: str, reason: StopReason) -> None:
        """Stop a job that this process holds; others are ignored."""
        with self._lock:
            lease = self._held.get(job_id)
        if lease:
            lease.stop(reason)

    def drain(self) -> None:
        """Stop all held jobs, and those acquired from now on, so that they return to their queues."""
        with self._lock:
            self._is_draining = True
            leases = list(self._held.values())
        for lease in leases:
            lease.stop("drain")

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self._turned_at = time.monotonic()
            try:
                self._beat()
            except Unavailable as error:
                log.warning("heartbeat_failed", error=error.detail)
            except Exception:  # without this thread, every lease of the process would run out
                log.exception("heartbeat_crashed")

    def _beat(self) -> None:
        with self._lock:
            leases = list(self._held.values())
        items = [(lease.job.id, lease.job.attempt) for lease in leases]
        standings = self._ledger.do(calls.heartbeat(self._owner, self._queues, items, self._info(), self.lease_seconds))
        self._turned_at = self._noted_at = time.monotonic()
        for lease, standing in zip(leases, standings, strict=True):
            if standing != "held":
                lease.stop(standing)
