"""Webhooks: which events there are, which of them an endpoint wants, and when a delivery is tried again."""

EVENTS = (
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.rejected",
    "job.dead",
    "release.promoted",
    "release.rolled_back",
    "rollout.started",
    "rollout.holding",
    "rollout.completed",
    "rollout.failed",
    "rollout.aborted",
    "proposal.opened",
    "proposal.ended",
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "batch.expired",
    "endpoint.disabled",
)
"""OpenAI's name where it has one. `job.dead`: it failed after several workers went silent over it."""
ALL = "*"
FAMILIES = tuple(f"{family}.*" for family in dict.fromkeys(name.split(".")[0] for name in EVENTS))
"""All events of which the first word is this one."""
WANTED = frozenset({ALL, *FAMILIES, *EVENTS})
"""What an endpoint may ask for."""
TEST_EVENT = "endpoint.test"

PAUSES_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Pauses before each further try, 75.6 hours together, as the Standard Webhooks specification proposes."""
MAX_AGE_SECONDS = sum(PAUSES_SECONDS)
"""How long a delivery may wait, and how long an endpoint may only fail until it is disabled."""
PATIENT_SECONDS = 60
"""How long an endpoint may only fail until it is tried once at a time."""
OLD_SECRET_SECONDS = 86_400
"""How long the secret before a rotated one signs, too."""
MAX_ENDPOINTS = 16
"""Endpoints of one tenant: the end of each of its jobs looks at all of them."""


def pause_seconds(attempts: int, spread: float) -> float | None:
    """Return the pause after so many tries, None where there is no further one.

    `spread`, from -1 to 1, moves it by up to a fifth, so that what failed together is not tried together.
    """
    if attempts > len(PAUSES_SECONDS):
        return None
    return PAUSES_SECONDS[attempts - 1] * (1 + spread / 5)
