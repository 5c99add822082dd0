"""Writes events of running jobs to the ledger, in batches, by one thread per process."""

import itertools
import secrets
import threading
from typing import Any

import structlog

from shared.contracts.jobs import Job
from shared.errors import Unavailable
from shared.ledger import Ledger, calls
from shared.ledger.calls import Event

log = structlog.get_logger()


class EventWriter:
    """One thread per process that writes events in batches; consecutive token events of a choice are joined."""

    def __init__(self, ledger: Ledger, *, retry_seconds: float = 60) -> None:
        self._ledger = ledger
        self._retry_seconds = retry_seconds
        self._pending: list[Event] = []
        self._writing: list[Event] = []
        self._wake = threading.Condition()
        self._name = secrets.token_hex(8)
        threading.Thread(target=self._run, name="event-writer", daemon=True).start()

    def put(self, job: Job, kind: str, data: dict[str, Any]) -> None:
        """Write an event soon, without blocking; its data says of which attempt it is."""
        with self._wake:
            self._pending.append((job.id, job.attempt, kind, data | {"attempt": job.attempt}))
            self._wake.notify_all()

    def flush(self) -> None:
        """Wait until all events are written."""
        with self._wake:
            self._wake.wait_for(lambda: not (self._pending or self._writing), timeout=self._retry_seconds)

    def take(self, job: Job) -> list[Event]:
        """Remove and return the job's pending events, to be written with its end; waits for those now being written."""

        def is_own(event: Event) -> bool:
            return event[:2] == (job.id, job.attempt)

        with self._wake:
            own = list(filter(is_own, self._pending))
            self._pending = list(itertools.filterfalse(is_own, self._pending))
            self._wake.wait_for(lambda: not any(map(is_own, self._writing)), timeout=self._retry_seconds)
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
            self._ledger.do_with_retries(call, self._retry_seconds)
        except Unavailable as error:
            log.warning("events_dropped", count=len(batch), error=error.detail)
        except Exception:  # without this thread, no job of the process could stream
            log.exception("events_dropped", count=len(batch))


def _joined(batch: list[Event]) -> list[Event]:
    joined: list[Event] = []
    open_at: dict[tuple[str, int], dict[int, int]] = {}  # of each attempt: choice -> its token event that may grow
    for job_id, attempt, kind, data in batch:
        if kind != "token":
            open_at.pop((job_id, attempt), None)
        else:
            at = open_at.setdefault((job_id, attempt), {}).setdefault(data.get("index", 0), len(joined))
            if at < len(joined):
                joined[at] = (job_id, attempt, kind, _with_more(joined[at][3], data))
                continue
        joined.append((job_id, attempt, kind, data))
    return joined


def _with_more(data: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Data of two token events in one: texts and log-probabilities behind each other."""
    joined = data | {"text": data["text"] + more["text"]}
    if "logprobs" in data and "logprobs" in more:
        joined["logprobs"] = {name: [*data["logprobs"][name], *of_more] for name, of_more in more["logprobs"].items()}
    return joined
