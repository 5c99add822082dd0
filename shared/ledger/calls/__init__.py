"""The ledger's operations as values that both clients run; one module for each part of the script."""

from shared.ledger.calls.base import Call, CancelledMeanwhile, Event, MustRunAlone, NotAcquired, Sent
from shared.ledger.calls.events import append, feedback
from shared.ledger.calls.leases import acquire, acquire_next, expire, heartbeat, lead, leave_queues
from shared.ledger.calls.lifecycle import (
    Created,
    cancel,
    create,
    drop,
    finish,
    release_unfinished,
    replay,
    route,
    wait_for,
)
from shared.ledger.calls.queries import Gauge, Gauges, JobFilter, Page, gauges, get, list_jobs
from shared.ledger.calls.release import move_release
from shared.ledger.calls.retention import BUDGET_USED, NO_BUDGET, Forgotten, TenantBudget, adopt_ended, forget

__all__ = [
    "BUDGET_USED",
    "NO_BUDGET",
    "Call",
    "CancelledMeanwhile",
    "Created",
    "Event",
    "Forgotten",
    "Gauge",
    "Gauges",
    "JobFilter",
    "MustRunAlone",
    "NotAcquired",
    "Page",
    "Sent",
    "TenantBudget",
    "acquire",
    "acquire_next",
    "adopt_ended",
    "append",
    "cancel",
    "create",
    "drop",
    "expire",
    "feedback",
    "finish",
    "forget",
    "gauges",
    "get",
    "heartbeat",
    "lead",
    "leave_queues",
    "list_jobs",
    "move_release",
    "release_unfinished",
    "replay",
    "route",
    "wait_for",
]
