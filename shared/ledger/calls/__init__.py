"""The ledger's operations as values that both clients run; one module for each part of the script."""

from shared.ledger.calls.base import Call, CancelledMeanwhile, Event, MustRunAlone, NotAcquired, Sent
from shared.ledger.calls.dependents import Settled, settle, wait_for
from shared.ledger.calls.events import append, feedback, forget_feedback
from shared.ledger.calls.leases import acquire, acquire_next, expire, heartbeat, lead, leave_queues
from shared.ledger.calls.lifecycle import (
    Created,
    cancel,
    create,
    drop,
    finish,
    kept_label,
    release_unfinished,
    replay,
    route,
)
from shared.ledger.calls.queries import (
    Gauge,
    Gauges,
    JobFilter,
    Large,
    Page,
    Unfinished,
    gauges,
    get,
    list_jobs,
    unfinished,
)
from shared.ledger.calls.release import move_release, remove_release
from shared.ledger.calls.retention import BUDGET_USED, NO_BUDGET, Forgotten, TenantBudget, adopt_ended, forget
from shared.ledger.calls.usage import Counts, Used, usage
from shared.ledger.calls.users import ForgottenPart, forget_user

__all__ = [
    "BUDGET_USED",
    "NO_BUDGET",
    "Call",
    "CancelledMeanwhile",
    "Counts",
    "Created",
    "Event",
    "Forgotten",
    "ForgottenPart",
    "Gauge",
    "Gauges",
    "JobFilter",
    "Large",
    "MustRunAlone",
    "NotAcquired",
    "Page",
    "Sent",
    "Settled",
    "TenantBudget",
    "Unfinished",
    "Used",
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
    "forget_feedback",
    "forget_user",
    "gauges",
    "get",
    "heartbeat",
    "kept_label",
    "lead",
    "leave_queues",
    "list_jobs",
    "move_release",
    "release_unfinished",
    "remove_release",
    "replay",
    "route",
    "settle",
    "unfinished",
    "usage",
    "wait_for",
]
