"""One try at a job, from acquiring it to its end: its lease kept alive, cancel and drain passed on, errors noted."""

import contextlib
import itertools
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn

import structlog

from shared import metrics, tracing
from shared.bus import Bus
from shared.company import Company
from shared.errors import Cancelled, SignalboxError, StaleAttempt, Unavailable
from shared.jobs import Job
from shared.ledger import Ledger, LedgerAway, as_ledger_away, calls
from shared.ledger.calls import CancelledMeanwhile, MustRunAlone, NotAcquired, Sent
from shared.settings import Settings

log = structlog.get_logger()
StopReason = Literal["cancel", "stale", "drain"]
Event = tuple[str, int, str, dict[str, Any]]
"""Job id, attempt, type, data."""

STUCK_SECONDS = 120.0
"""How long no turn may come before a process counts as stuck: a ledger that is away holds one up for some seconds."""


class Held:
    """A job under a live lease; `on_stop` is called once, from another thread, when the work has to end."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reason: StopReason | None = None
        self._asked = threading.Event()
        self._on_stop: Callable[[], Any] = lambda: None
        self._lock = threading.Lock()

    @property
    def must_stop(self) -> bool:
        """Whether somebody asked for the end."""
        return self.reason is not None

    def on_stop(self, act: Callable[[], Any]) -> None:
        """Set what ends the work; where the end was asked for already, it is called at once."""
        with self._lock:
            self._on_stop = act
            asked = self.must_stop
        if asked:
            act()

    def stop(self, reason: StopReason) -> None:
        """Ask for the end; the first reason stays."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            self._asked.set()
            act = self._on_stop
        act()

    def wait(self, seconds: float) -> None:
        """Wait, but raise `Cancelled` as soon as the end is asked for."""
        self._asked.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise `Cancelled` where the end was asked for."""
        if self.must_stop:
            raise Cancelled("cancelled", f"job {self.job.id} was stopped ({self.reason})")

    def give_back(self) -> NoReturn:
        """End this attempt without a result: the job waits in its queue again, and no lease counts as lost."""
        self.stop("drain")
        raise Cancelled("given_back", f"job {self.job.id} goes back to its queue")


class LeaseKeeper:
    """One thread a process that keeps every held lease, and the process's presence in its queues, alive."""

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
        self._held: dict[str, Held] = {}
        self._is_draining = False
        self._lock = threading.Lock()  # guards the two above
        self._stop = threading.Event()

    def start(self) -> None:
        """Announce the process, then beat in the background."""
        self._beat()
        threading.Thread(target=self._run, name="lease-keeper", daemon=True).start()

    def close(self) -> None:
        """Leave the queues."""
        self._stop.set()
        with contextlib.suppress(Unavailable):
            self._ledger.do(calls.leave_queues(self._owner, self._queues))

    @property
    def is_turning(self) -> bool:
        """Whether the thread lives and gets its turns, with or without a ledger that answers."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    @property
    def is_present(self) -> bool:
        """Whether the ledger has lately noted this process as a consumer of its queues, and it is not leaving them."""
        return not self._stop.is_set() and time.monotonic() - self._noted_at < self.lease_seconds

    @contextlib.contextmanager
    def hold(self, job: Job) -> Iterator[Held]:
        """Keep this job's lease alive for the length of the block; an older attempt in this process has lost it."""
        held = Held(job)
        with self._lock:
            older = self._held.get(job.id)
            self._held[job.id] = held
            is_draining = self._is_draining
        if older:
            older.stop("stale")
        if is_draining:  # it waited for its turn, and the time is over
            held.stop("drain")
        try:
            yield held
        finally:
            with self._lock:
                if self._held.get(job.id) is held:
                    del self._held[job.id]

    @property
    def held_count(self) -> int:
        """Jobs held now."""
        return len(self._held)

    def stop_job(self, job_id: str, reason: StopReason) -> None:
        """Pass on a cancel hint; a job held elsewhere is ignored."""
        with self._lock:
            held = self._held.get(job_id)
        if held:
            held.stop(reason)

    def drain(self) -> None:
        """Stop everything held, and what is acquired from now on, to be given back."""
        with self._lock:
            self._is_draining = True
            all_held = list(self._held.values())
        for held in all_held:
            held.stop("drain")

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self._turned_at = time.monotonic()
            try:
                self._beat()
            except Unavailable as error:
                log.warning("heartbeat_failed", error=error.detail)
            except Exception:  # without this thread every lease of the process runs out
                log.exception("heartbeat_crashed")

    def _beat(self) -> None:
        with self._lock:
            held = list(self._held.values())
        items = [(h.job.id, h.job.attempt) for h in held]
        standing = self._ledger.do(calls.heartbeat(self._owner, self._queues, items, self._info(), self.lease_seconds))
        self._turned_at = self._noted_at = time.monotonic()
        for one, stands in zip(held, standing, strict=True):
            if stands != "held":
                one.stop(stands)


class Attempts:
    """Runs one attempt at a time in each thread that calls it; the last try at a job runs while no other does."""

    def __init__(
        self, ledger: Ledger, bus: Bus, leases: LeaseKeeper, owner: str, *, patience_seconds: float = 60
    ) -> None:
        self._ledger = ledger
        self._bus = bus
        self._leases = leases
        self._owner = owner
        self._patience_seconds = patience_seconds
        self._company = Company()

    def run(self, job_id: str, queue: str, work: Callable[[Job, Held], None]) -> None:
        """Acquire the job and do the work; whatever happens, the ledger says how it ended, or who has it now."""
        try:
            self._run_in_company(job_id, queue, work)
        except NotAcquired as refusal:
            log.info("message_ignored", job_id=job_id, why=refusal.code)

    def _run_in_company(self, job_id: str, queue: str, work: Callable[[Job, Held], None]) -> None:
        try:
            with self._company.beside_others():
                self._work(self._acquire(job_id, queue, beside_others=True), work)
        except MustRunAlone:  # nothing is acquired while it waits: what ends this process now must not cost it its try
            with self._company.alone():
                self._work(self._acquire(job_id, queue, beside_others=False), work)

    def _acquire(self, job_id: str, queue: str, *, beside_others: bool) -> Job:
        lease_seconds = self._leases.lease_seconds
        return self._ledger.do(calls.acquire(job_id, queue, self._owner, lease_seconds, beside_others=beside_others))

    def _work(self, job: Job, work: Callable[[Job, Held], None]) -> None:
        with (
            structlog.contextvars.bound_contextvars(job_id=job.id, release=job.release, attempt=job.attempt),
            self._leases.hold(job) as held,
        ):
            started = time.monotonic()
            _observe_wait(job)
            try:
                with tracing.attempt(job), as_ledger_away():  # raw Redis calls of the work
                    work(job, held)
                metrics.STAGE_SECONDS.labels(job.state).observe(time.monotonic() - started)
            except StaleAttempt:
                log.warning("attempt_is_stale")
            except CancelledMeanwhile:
                log.info("job_cancelled")
            except Cancelled as error:
                self._stopped(job, held, error)
            except LedgerAway as error:  # no fault of the job
                log.warning("ledger_away", error=error.detail)
                self._give_back(job)
            except SignalboxError as error:
                log.warning("job_failed", code=error.code, detail=error.detail)
                self.end(calls.fail(job, error))
            except Exception:  # a poison job must not take its worker along
                log.exception("job_crashed")
                detail = "the service failed on this job; its log has the cause under this job's id"
                self.end(calls.fail(job, SignalboxError("internal_error", detail)))

    def send(self, sent: Sent) -> None:
        """Send what the ledger has noted already; where the broker is down the reconciler does it later."""
        try:
            self._bus.send(sent)
        except Unavailable as error:
            log.warning("send_failed", job_id=sent.job_id, error=error.detail)

    def end(self, call: calls.Call[list[Sent]]) -> bool:
        """Write the end of a job, patiently through a ledger restart, and send what it set free.

        Answers whether this attempt wrote it: a stale one must not act as if it had.
        """
        try:
            released = self._ledger.do_patiently(call, self._patience_seconds)
        except StaleAttempt:
            log.warning("attempt_is_stale")
            return False
        metrics.JOBS_ENDED.labels(call.args["state"]).inc()
        for sent in released:
            self.send(sent)
        return True

    def _stopped(self, job: Job, held: Held, error: Cancelled) -> None:
        if held.reason == "drain":
            self._give_back(job)
        elif held.reason != "stale":
            self.end(calls.fail(job, error))

    def _give_back(self, job: Job) -> None:
        with contextlib.suppress(StaleAttempt, CancelledMeanwhile):
            self.send(self._ledger.do_patiently(calls.give_back(job), self._patience_seconds))


def _observe_wait(job: Job) -> None:
    waited_in = "routed" if "routed" in job.timestamps else "queued"
    waited_ms = job.timestamps[job.state] - job.timestamps[waited_in]
    metrics.STAGE_SECONDS.labels(waited_in).observe(waited_ms / 1000)


class EventWriter:
    """One thread a process that writes events in batches, the text of one job's neighbouring pieces joined."""

    def __init__(self, ledger: Ledger, *, patience_seconds: float = 60) -> None:
        self._ledger = ledger
        self._patience_seconds = patience_seconds
        self._pending: list[Event] = []
        self._writing: list[Event] = []
        self._wake = threading.Condition()
        self._name = secrets.token_hex(8)
        threading.Thread(target=self._run, name="event-writer", daemon=True).start()

    def put(self, job: Job, kind: str, data: dict[str, Any]) -> None:
        """Write soon; never blocks."""
        with self._wake:
            self._pending.append((job.id, job.attempt, kind, data))
            self._wake.notify_all()

    def flush(self) -> None:
        """Return when nothing waits to be written any more."""
        with self._wake:
            self._wake.wait_for(lambda: not (self._pending or self._writing), timeout=self._patience_seconds)

    def take(self, job: Job) -> list[Event]:
        """Take back what waits of this job, for its end to carry along; what is being written is written first."""

        def is_own(event: Event) -> bool:
            return event[:2] == (job.id, job.attempt)

        with self._wake:
            own = list(filter(is_own, self._pending))
            self._pending = list(itertools.filterfalse(is_own, self._pending))
            self._wake.wait_for(lambda: not any(map(is_own, self._writing)), timeout=self._patience_seconds)
        return _joined(own)

    def _run(self) -> None:
        for number in itertools.count(1):
            with self._wake:
                self._wake.wait_for(lambda: self._pending)
                self._writing, self._pending = self._pending, []
            self._write(self._writing, number)
            with self._wake:
                self._writing = []
                self._wake.notify_all()

    def _write(self, batch: list[Event], number: int) -> None:
        try:
            call = calls.append(_joined(batch), writer=self._name, batch=number)
            self._ledger.do_patiently(call, self._patience_seconds)
        except Unavailable as error:
            log.warning("events_dropped", count=len(batch), error=error.detail)
        except Exception:  # without this thread no job of the process streams any more
            log.exception("events_dropped", count=len(batch))


def _joined(batch: list[Event]) -> list[Event]:
    joined: list[Event] = []
    last: dict[tuple[str, int], int] = {}
    for job_id, attempt, kind, data in batch:
        at = last.get((job_id, attempt))
        if kind == "token" and at is not None and joined[at][2] == "token":
            joined[at] = (job_id, attempt, kind, {"text": joined[at][3]["text"] + data["text"]})
        else:
            last[job_id, attempt] = len(joined)
            joined.append((job_id, attempt, kind, data))
    return joined
