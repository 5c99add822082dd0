"""How much is injected and for how long: the long form for `make chaos`, the short one for `make test`.

`seconds` bounds what a row injects faults for, `patience_seconds` what it waits for afterwards; together they stay
under half an hour. The short form shortens the lease everywhere; the long one does so everywhere but in row 3.
`max_lost_leases` is far above its default where a job may well meet many faults: giving jobs up is row 5.
"""

from types import SimpleNamespace
from typing import Any

Counts = dict[str, Any]

LONG: dict[int, Counts] = {
    1: {
        "jobs": 10_000,
        "worker_kills": 300,
        "api_kills": 50,
        "redis_kills": 20,
        "flushes": 5,
        "workers": 6,
        "max_lost_leases": 100,
        "seconds": 1150,
        "patience_seconds": 300,
        "lease_seconds": 5.0,
    },
    2: {
        "freezes": 200,
        "at_once": 2,
        "workers": 5,
        "words": 120,
        "max_lost_leases": 100,
        "seconds": 1500,
        "patience_seconds": 120,
        "lease_seconds": 3.0,
    },
    3: {
        "kills": 200,
        "workers": 6,
        "words": 80,
        "max_lost_leases": 100,
        "seconds": 1500,
        "patience_seconds": 120,
        "lease_seconds": 15.0,
    },
    4: {"restarts": 20, "goal_seconds": 60.0, "patience_seconds": 120, "lease_seconds": 5.0},
    5: {"jobs": 5000, "poison": 100, "workers": 12, "patience_seconds": 1300, "lease_seconds": 3.0},
    6: {
        "trainings": 5,
        "models": 2,
        "kills": 2,
        "epochs": 100,
        "checkpoint_steps": 20,
        "times_the_lease": 3,
        "patience_seconds": 300,
        "lease_seconds": 5.0,
    },
    7: {
        "workers": 10,
        "rounds": 3,
        "jobs_per_second": 12.0,
        "words": 20,
        "patience_seconds": 300,
        "lease_seconds": 5.0,
    },
    8: {"keys": 200, "posts": 50, "lease_seconds": 5.0},
    9: {"mutants": 240, "models": 2, "patience_seconds": 60, "lease_seconds": 5.0},
    10: {"moves": 100, "jobs_per_second": 15.0, "goal_seconds": 5.0, "patience_seconds": 120, "lease_seconds": 5.0},
    11: {
        "requests": 2000,
        "models": 2,
        "adapters": 12,
        "prompts": 6,
        "slots": 4,
        "clients": 16,
        "patience_seconds": 600,
        "lease_seconds": 5.0,
    },
    12: {"models": 2, "kills": 10, "slow": 10, "wrong": 30, "full": 10, "patience_seconds": 90, "lease_seconds": 5.0},
    13: {"resources": 3, "lease_seconds": 5.0},
    14: {
        "cases": 10_000,
        "phases": "coverage,fuzzing,stateful",
        "examples": 100,
        "seconds": 1620,
        "lease_seconds": 5.0,
    },
    15: {"urls": 60, "lease_seconds": 5.0},
    16: {
        "times": 10,
        "backlog": 100,
        "words": 60,
        "huge_bodies": 3,
        "huge_bytes": 1 << 30,
        "readers": 1000,
        "over": 100,
        "patience_seconds": 600,
        "lease_seconds": 5.0,
    },
    17: {
        "backlog": 2000,
        "trickle": 50,
        "words": 20,
        "kills": 3,
        "max_lost_leases": 100,
        "patience_seconds": 300,
        "lease_seconds": 5.0,
    },
    18: {
        "ledger_mib": 256,
        "chars": 30_000,
        "over": 200,
        "jobs_per_second": 20.0,
        "held": 40,
        "words": 20,
        "upload_bytes": 40 << 20,
        "full_seconds": 120,
        "patience_seconds": 600,
        "lease_seconds": 5.0,
    },
    19: {"half_requests": 2000, "seconds": 300, "goal_ms": 100.0, "patience_seconds": 60, "lease_seconds": 5.0},
    20: {"workers": 3, "rounds": 15, "jobs_per_second": 4.0, "patience_seconds": 300, "lease_seconds": 5.0},
    21: {"largest_set": 6, "lease_seconds": 5.0},
    23: {
        "lines": 2000,
        "words": 20,
        "workers": 3,
        "worker_kills": 7,
        "api_kills": 4,
        "batch_worker_kills": 9,
        "max_lost_leases": 100,
        "seconds": 60,
        "patience_seconds": 300,
        "lease_seconds": 5.0,
    },
}

_SMALL: dict[int, Counts] = {
    1: {"jobs": 60, "worker_kills": 3, "api_kills": 1, "redis_kills": 1, "flushes": 1, "workers": 3}
    | {"seconds": 6, "patience_seconds": 60},
    2: {"freezes": 2, "workers": 3, "words": 60, "seconds": 30},
    3: {"kills": 2, "workers": 3, "words": 40, "seconds": 4, "patience_seconds": 60},
    4: {"restarts": 2},
    5: {"jobs": 40, "poison": 1, "workers": 3, "patience_seconds": 90},
    6: {
        "models": 1,
        "trainings": 1,
        "kills": 1,
        "epochs": 20,
        "checkpoint_steps": 5,
        "times_the_lease": 1,
        "lease_seconds": 4.0,
    },
    7: {"workers": 3, "rounds": 1, "jobs_per_second": 6.0, "words": 12, "patience_seconds": 60},
    8: {"keys": 3, "posts": 12},
    9: {"mutants": 40, "models": 0},
    10: {"moves": 4, "jobs_per_second": 8.0},
    11: {"models": 1, "requests": 60, "adapters": 6, "prompts": 2, "slots": 4, "clients": 8, "lease_seconds": 4.0},
    12: {"models": 0, "kills": 1, "slow": 1, "wrong": 2, "full": 1},
    13: {"resources": 1},
    14: {"cases": 30, "phases": "fuzzing,stateful", "examples": 2, "seconds": 60},
    15: {},
    16: {"times": 3, "backlog": 10, "words": 150, "huge_bodies": 1, "huge_bytes": 64 << 20, "readers": 20, "over": 5},
    17: {"backlog": 200, "trickle": 6, "kills": 1, "max_lost_leases": 3, "patience_seconds": 60},
    18: {"ledger_mib": 64, "over": 10, "held": 12, "upload_bytes": 4 << 20, "full_seconds": 5, "patience_seconds": 60},
    19: {"half_requests": 200, "seconds": 5, "goal_ms": 500.0},
    20: {"workers": 2, "rounds": 1, "jobs_per_second": 3.0, "patience_seconds": 90},
    21: {"largest_set": 1},
    23: {
        "lines": 200,
        "worker_kills": 1,
        "api_kills": 1,
        "batch_worker_kills": 2,
        "seconds": 3,
        "patience_seconds": 90,
    },
}
SHORT: dict[int, Counts] = {number: LONG[number] | {"lease_seconds": 2.0} | _SMALL[number] for number in LONG}


class Size(SimpleNamespace):
    """The counts of one row by name."""
