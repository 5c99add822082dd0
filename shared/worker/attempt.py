"""One attempt at a job, from acquiring it to the end of its stage."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import structlog

from shared.contracts.dialogue import Kept
from shared.contracts.jobs import Job, JobState
from shared.errors import Cancelled, ServiceAway, SignalboxError, StaleAttempt, Unavailable
from shared.ledger import Ledger, LedgerAway, as_ledger_away, calls
from shared.ledger.calls import Call, CancelledMeanwhile, MustRunAlone, NotAcquired, Sent
from shared.ledger.calls.base import T
from shared.observability import metrics, tracing
from shared.queue.bus import Bus
from shared.worker.event_writer import EventWriter
from shared.worker.exclusive import ExclusiveGate
from shared.worker.leases import HeldJob, LeaseKeeper

log = structlog.get_logger()
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 60.0
"""Of a job that was given back, before its next try and at most."""


class Suspended(Exception):
    """The job waits for other jobs or for another process: this attempt has ended, and a later attempt continues."""


class Attempt:
    """A job while a service works on it: its lease, its events, and the methods that end its stage.

    Each of these methods first writes the pending events, and retries while the ledger restarts. `succeed`, `reject`
    and `fail` return whether this attempt ended the job: a stale attempt must not act as if it had.
    """

    def __init__(
        self, job: Job, lease: HeldJob, ledger: Ledger, bus: Bus, events: EventWriter, *, retry_seconds: float
    ) -> None:
        self.job = job
        self.lease = lease
        self._ledger = ledger
        self._bus = bus
        self._events = events
        self._retry_seconds = retry_seconds

    def check(self) -> None:
        """Raise `Cancelled` if the attempt has to stop."""
        self.lease.check()

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Write an event of the job soon, without blocking."""
        self._events.put(self.job, kind, data)

    def succeed(self, result: dict[str, Any], **fields: dict[str, Any]) -> bool:
        """End the job with its result."""
        return self._finish(JobState.SUCCEEDED, result=result, **fields)

    def reject(self, error: SignalboxError, **fields: dict[str, Any]) -> bool:
        """End the job because no label fits it."""
        return self._finish(JobState.REJECTED, error=error.as_fields(), **fields)

    def fail(self, error: SignalboxError) -> bool:
        """End the job with an error; the code `cancelled` makes it a cancelled job."""
        state = JobState.CANCELLED if error.code == "cancelled" else JobState.FAILED
        return self._finish(state, error=error.as_fields())

    def kept_label(self) -> Kept | None:
        """Return what the job's conversation was last answered with; None where it names none, or nothing is known."""
        return self._write(calls.kept_label(self.job)) if self.job.conversation else None

    def route(self, queue: str, *, label: str, selection: dict[str, Any], kept: Kept | None = None) -> None:
        """Move the job to the queue of its generation stage; raises `StaleAttempt`, `CancelledMeanwhile`.

        `kept` is noted as what the job's conversation was last answered with.
        """
        events = self._events.take(self.job)
        call = calls.route(self.job, queue=queue, label=label, selection=selection, events=events, kept=kept)
        self._send(self._write(call))

    def note_shadow(self, seen: dict[str, Any]) -> None:
        """Note for the job's rollout what a candidate's selector makes of it; lost where the ledger is away."""
        with contextlib.suppress(SignalboxError):
            self._ledger.do(calls.note_shadow(self.job.tenant_id, self.job.rollout, self.job.id, seen))

    def wait_for(self, job_ids: Sequence[str]) -> NoReturn:
        """Let the job wait until each of `job_ids` has ended; ends this attempt, so the job occupies no worker.

        Raises `Suspended`; `Conflict` `wait_cycle` where one of them waits for this job; `StaleAttempt`,
        `CancelledMeanwhile`.
        """
        self._events.flush()
        sent = self._write(calls.wait_for(self.job, job_ids))
        if sent:  # all of them have ended
            self._send(sent)
        raise Suspended(f"job {self.job.id} waits for {', '.join(job_ids)}")

    def hand_over(self, queue: str) -> NoReturn:
        """Leave the job to the consumers of another queue of its stage; no lease counts as lost.

        Raises `Suspended`; `StaleAttempt`, `CancelledMeanwhile`.
        """
        self._send(self._write(calls.release_unfinished(self.job, queue)))
        raise Suspended(f"job {self.job.id} waits in {queue}")

    def release_unfinished(self) -> None:
        """Return the job to its queue; no lease counts as lost."""
        with contextlib.suppress(StaleAttempt, CancelledMeanwhile):
            self._send(self._write(calls.release_unfinished(self.job)))

    def give_back(self) -> None:
        """Return the job to its queue, to be taken after a pause that doubles with each try; no lease counts."""
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(self.job.tries - 1, 10), _LONGEST_PAUSE_SECONDS)
        with contextlib.suppress(StaleAttempt, CancelledMeanwhile):
            self._write(calls.give_back(self.job, pause))

    def _finish(self, state: JobState, **fields: dict[str, Any]) -> bool:
        try:
            released = self._write(calls.finish(self.job, state, self._events.take(self.job), **fields))
        except StaleAttempt:
            log.warning("attempt_is_stale")
            return False
        metrics.JOBS_ENDED.labels(state).inc()
        for sent in released:
            self._send(sent)
        return True

    def _write(self, call: Call[T]) -> T:
        return self._ledger.do_with_retries(call, self._retry_seconds)

    def _send(self, sent: Sent) -> None:
        """Send a job that the ledger has noted as sent; where the broker is down, the reconciler sends it later."""
        try:
            self._bus.send(sent)
        except Unavailable as error:
            log.warning("send_failed", job_id=sent.job_id, error=error.detail)


class AttemptRunner:
    """Runs one attempt at a time in each calling thread; a job's last try runs while no other job does."""

    def __init__(
        self,
        ledger: Ledger,
        bus: Bus,
        leases: LeaseKeeper,
        events: EventWriter,
        owner: str,
        *,
        retry_seconds: float = 60,
    ) -> None:
        self._ledger = ledger
        self._bus = bus
        self._leases = leases
        self._events = events
        self._owner = owner
        self._retry_seconds = retry_seconds
        self._gate = ExclusiveGate()

    def run(self, queue: str, work: Callable[[Attempt], None]) -> None:
        """Acquire the queue's next job, if any, and do the work; the ledger always records how the attempt ended."""
        try:
            self._run_beside_others(queue, work)
        except NotAcquired as refusal:
            log.debug("message_ignored", queue=queue, why=refusal.code)

    def _run_beside_others(self, queue: str, work: Callable[[Attempt], None]) -> None:
        lease_seconds = self._leases.lease_seconds
        try:
            with self._gate.beside_others():
                self._work(self._ledger.do(calls.acquire_next(queue, self._owner, lease_seconds)), work)
        except MustRunAlone as refusal:  # acquire after the wait: a crash meanwhile must not use up the last try
            with self._gate.alone():
                self._work(self._ledger.do(calls.acquire(refusal.job_id, queue, self._owner, lease_seconds)), work)

    def _work(self, job: Job, work: Callable[[Attempt], None]) -> None:
        with (
            structlog.contextvars.bound_contextvars(job_id=job.id, release=job.release, attempt=job.attempt),
            self._leases.hold(job) as lease,
        ):
            attempt = Attempt(job, lease, self._ledger, self._bus, self._events, retry_seconds=self._retry_seconds)
            _observe(job.stage.waiting_state, job.waited_ms / 1000)
            started = time.monotonic()
            if job.tries > 1:
                attempt.emit("restart", {"try": job.tries})
            try:
                with tracing.attempt(job), as_ledger_away():  # raw Redis calls of the work
                    work(attempt)
                _observe(job.state, time.monotonic() - started)
            except Suspended as wait:
                log.info("job_suspended", why=str(wait))
            except StaleAttempt:
                log.warning("attempt_is_stale")
            except CancelledMeanwhile:
                log.info("job_cancelled")
            except Cancelled as error:
                _stop(attempt, error)
            except LedgerAway as error:  # the job is not the cause
                log.warning("ledger_away", error=error.detail)
                attempt.release_unfinished()
            except ServiceAway as error:
                log.warning("job_given_back", code=error.code, detail=error.detail)
                metrics.JOBS_GIVEN_BACK.inc()
                attempt.give_back()
            except SignalboxError as error:
                log.warning("job_failed", code=error.code, detail=error.detail)
                attempt.fail(error)
            except Exception:  # a job that crashes must not end its worker
                log.exception("job_crashed")
                detail = "the service failed on this job; look for the cause in its log, under this job's id"
                attempt.fail(SignalboxError("internal_error", detail))


def _stop(attempt: Attempt, error: Cancelled) -> None:
    if attempt.lease.reason == "drain":
        attempt.release_unfinished()
    elif attempt.lease.reason != "stale":
        attempt.fail(error)


def _observe(state: JobState, seconds: float) -> None:
    metrics.STAGE_SECONDS.labels(state).observe(seconds)
