"""Prometheus metrics of every Celery service; a job or a tenant is never a label.

Metrics of one service only are in its own `metrics.py`. Names follow vLLM's, with our prefix.
"""

from prometheus_client import Counter, Histogram

from shared.contracts.jobs import JobState

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Buckets of durations, in seconds."""

STAGE_SECONDS = Histogram(
    "signalbox_stage_seconds",
    "Time in one state of a job: queued, selecting, routed, running",
    ["stage"],
    buckets=SECONDS,
)
JOBS_ENDED = Counter("signalbox_jobs_ended", "Attempts that ended a job", ["state"])
JOBS_GIVEN_BACK = Counter(
    "signalbox_jobs_given_back", "Attempts that returned their job because what this process needs was away"
)
JOBS_FORGOTTEN_EARLY = Counter(
    "signalbox_jobs_forgotten_early", "Ended jobs that were forgotten before their time, for room in the ledger"
)
for _state in JobState:
    if _state.is_final:
        JOBS_ENDED.labels(_state)  # a rate needs a zero before the first job
