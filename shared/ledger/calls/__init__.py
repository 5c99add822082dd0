"""The ledger's operations as values that both clients run; one module for each part of the script."""

from shared.ledger.calls.base import Call, CancelledMeanwhile, Event, MustRunAlone, NotAcquired, Sent
from shared.ledger.calls.dependents import Settled, settle, wait_for
from shared.ledger.calls.events import append, feedback
from shared.ledger.calls.leases import acquire, acquire_next, expire, heartbeat, leave_queues
from shared.ledger.calls.lifecycle import (
    Created,
    cancel,
    create,
    drop,
    finish,
    release_unfinished,
    replay,
    route,
)
from shared.ledger.calls.queries import Gauge, Gauges, JobFilter, Large, Page, gauges, get, list_jobs
from shared.ledger.calls.release import move_release

__all__ = [
    "Call",
    "CancelledMeanwhile",
    "Created",
    "Event",
    "Gauge",
    "Gauges",
    "JobFilter",
    "Large",
    "MustRunAlone",
    "NotAcquired",
    "Page",
    "Sent",
    "Settled",
    "acquire",
    "acquire_next",
    "append",
    "cancel",
    "create",
    "drop",
    "expire",
    "feedback",
    "finish",
    "gauges",
    "get",
    "heartbeat",
    "leave_queues",
    "list_jobs",
    "move_release",
    "release_unfinished",
    "replay",
    "route",
    "settle",
    "wait_for",
]
