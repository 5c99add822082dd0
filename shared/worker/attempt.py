"""One try at a job, from acquiring it to its end: cancel and drain passed on, errors noted."""

import contextlib
import time
from collections.abc import Callable

import structlog

from shared.contracts.jobs import Job
from shared.errors import Cancelled, SignalboxError, StaleAttempt, Unavailable
from shared.ledger import Ledger, LedgerAway, as_ledger_away, calls
from shared.ledger.calls import CancelledMeanwhile, MustRunAlone, NotAcquired, Sent
from shared.observability import metrics, tracing
from shared.queue.bus import Bus
from shared.worker.exclusive import ExclusiveGate
from shared.worker.leases import HeldJob, LeaseKeeper

log = structlog.get_logger()


class Attempts:
    """Runs one attempt at a time in each thread that calls it; the last try at a job runs while no other does."""

    def __init__(self, ledger: Ledger, bus: Bus, leases: LeaseKeeper, owner: str, *, retry_seconds: float = 60) -> None:
        self._ledger = ledger
        self._bus = bus
        self._leases = leases
        self._owner = owner
        self._retry_seconds = retry_seconds
        self._company = ExclusiveGate()

    def run(self, job_id: str, queue: str, work: Callable[[Job, HeldJob], None]) -> None:
        """Acquire the job and do the work; whatever happens, the ledger says how it ended, or who has it now."""
        try:
            self._run_in_company(job_id, queue, work)
        except NotAcquired as refusal:
            log.info("message_ignored", job_id=job_id, why=refusal.code)

    def _run_in_company(self, job_id: str, queue: str, work: Callable[[Job, HeldJob], None]) -> None:
        try:
            with self._company.beside_others():
                self._work(self._acquire(job_id, queue, beside_others=True), work)
        except MustRunAlone:  # nothing is acquired while it waits: what ends this process now must not cost it its try
            with self._company.alone():
                self._work(self._acquire(job_id, queue, beside_others=False), work)

    def _acquire(self, job_id: str, queue: str, *, beside_others: bool) -> Job:
        lease_seconds = self._leases.lease_seconds
        return self._ledger.do(calls.acquire(job_id, queue, self._owner, lease_seconds, beside_others=beside_others))

    def _work(self, job: Job, work: Callable[[Job, HeldJob], None]) -> None:
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
                self._release_unfinished(job)
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
            released = self._ledger.do_with_retries(call, self._retry_seconds)
        except StaleAttempt:
            log.warning("attempt_is_stale")
            return False
        metrics.JOBS_ENDED.labels(call.args["state"]).inc()
        for sent in released:
            self.send(sent)
        return True

    def _stopped(self, job: Job, held: HeldJob, error: Cancelled) -> None:
        if held.reason == "drain":
            self._release_unfinished(job)
        elif held.reason != "stale":
            self.end(calls.fail(job, error))

    def _release_unfinished(self, job: Job) -> None:
        with contextlib.suppress(StaleAttempt, CancelledMeanwhile):
            self.send(self._ledger.do_with_retries(calls.release_unfinished(job), self._retry_seconds))


def _observe_wait(job: Job) -> None:
    waited_in = "routed" if "routed" in job.timestamps else "queued"
    waited_ms = job.timestamps[job.state] - job.timestamps[waited_in]
    metrics.STAGE_SECONDS.labels(waited_in).observe(waited_ms / 1000)
