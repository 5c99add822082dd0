"""How much is injected and for how long: the long form for `make chaos`, the short one for `make test`.

`seconds` bounds what a row injects faults for, `patience_seconds` what it waits for afterwards; their sum stays under
half an hour. The short form shortens the lease everywhere; the long one does so everywhere but in row 3.
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
        "models": 2,
        "seconds": 1380,
        "patience_seconds": 300,
        "lease_seconds": 5.0,
    },
    2: {"freezes": 200, "at_once": 2, "workers": 5, "models": 1, "words": 60, "seconds": 1500, "patience_seconds": 120,
        "lease_seconds": 3.0},
    3: {"kills": 200, "workers": 6, "words": 40, "seconds": 1500, "patience_seconds": 120, "lease_seconds": 15.0},
    4: {"restarts": 20, "goal_seconds": 60.0, "patience_seconds": 120, "lease_seconds": 5.0},
    5: {"jobs": 5000, "poison": 100, "workers": 12, "patience_seconds": 1680, "lease_seconds": 3.0},
    6: {"trainings": 5, "kills": 2, "epochs": 60, "rows": 24, "checkpoint_steps": 20, "patience_seconds": 300,
        "lease_seconds": 5.0},
    7: {"workers": 10, "rounds": 3, "jobs_per_second": 12.0, "words": 20, "patience_seconds": 300,
        "lease_seconds": 5.0},
    8: {"keys": 200, "posts": 50},
    9: {"mutants": 240, "patience_seconds": 60},
    10: {"moves": 100, "jobs_per_second": 15.0, "goal_seconds": 5.0, "patience_seconds": 120, "lease_seconds": 5.0},
    11: {"requests": 2000, "adapters": 12, "prompts": 6, "slots": 4, "clients": 16, "patience_seconds": 600},
    12: {"kills": 10, "slow": 10, "wrong": 30, "full": 10, "patience_seconds": 90},
    13: {"resources": 3},
    14: {"cases": 10_000, "seconds": 1500},
    15: {},
    16: {"times": 10, "backlog": 200, "huge_bodies": 3, "huge_bytes": 1 << 30, "readers": 1000, "over": 100,
         "patience_seconds": 600},
}  # fmt: skip

SHORT: dict[int, Counts] = {
    1: LONG[1] | {"jobs": 60, "worker_kills": 3, "api_kills": 1, "redis_kills": 1, "flushes": 1, "workers": 3,
                  "models": 0, "seconds": 8, "patience_seconds": 60, "lease_seconds": 2.0},
    2: LONG[2] | {"freezes": 2, "workers": 3, "models": 0, "words": 40, "seconds": 30, "lease_seconds": 2.0},
    3: LONG[3] | {"kills": 2, "workers": 3, "words": 30, "seconds": 30, "lease_seconds": 2.0},
    4: LONG[4] | {"restarts": 2, "lease_seconds": 2.0},
    5: LONG[5] | {"jobs": 40, "poison": 1, "workers": 3, "patience_seconds": 90, "lease_seconds": 2.0},
    6: LONG[6] | {"trainings": 1, "kills": 1, "epochs": 20, "checkpoint_steps": 5, "patience_seconds": 120,
                  "lease_seconds": 2.0},
    7: LONG[7] | {"workers": 3, "rounds": 1, "jobs_per_second": 6.0, "patience_seconds": 60, "lease_seconds": 2.0},
    8: LONG[8] | {"keys": 3, "posts": 12},
    9: LONG[9] | {"mutants": 40},
    10: LONG[10] | {"moves": 4, "jobs_per_second": 8.0, "lease_seconds": 2.0},
    11: LONG[11] | {"requests": 60, "adapters": 6, "prompts": 2, "slots": 2, "clients": 8},
    12: LONG[12] | {"kills": 1, "slow": 1, "wrong": 2, "full": 1},
    13: LONG[13] | {"resources": 1},
    14: LONG[14] | {"cases": 60, "seconds": 30},
    15: {},
    16: LONG[16] | {"backlog": 10, "huge_bodies": 1, "huge_bytes": 64 << 20, "readers": 20, "over": 5},
}  # fmt: skip


class Size(SimpleNamespace):
    """The counts of one row by name."""
