"""Prometheus metrics of the Celery services; a job or a tenant is never a label."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

STAGE_SECONDS = Histogram(
    "signalbox_stage_seconds",
    "Time in one state of a job: queued, selecting, routed, running",
    ["stage"],
    buckets=_SECONDS,
)
FIRST_TOKEN_SECONDS = Histogram(
    "signalbox_time_to_first_token_seconds", "From the engine taking a request to its first token", buckets=_SECONDS
)
PROMPT_TOKENS = Counter("signalbox_prompt_tokens", "Prompt tokens read", ["label"])
GENERATED_TOKENS = Counter("signalbox_generated_tokens", "Tokens generated", ["label"])
REQUESTS_RUNNING = Gauge("signalbox_requests_running", "Requests in the engine")
ADAPTERS_RESIDENT = Gauge("signalbox_adapters_resident", "Adapters in memory")
RELOADS = Counter("signalbox_reloads", "Models or adapters loaded", ["what"])
REJECTS = Counter("signalbox_rejects", "Requests that no label was found for", ["reason"])
SELECTIONS = Counter("signalbox_selections", "Selections made, by who was asked: light, llm or both", ["by"])
SELECTOR_PROBABILITY = Histogram(
    "signalbox_selector_probability", "Probability of the best label", buckets=[x / 20 for x in range(1, 21)]
)
TRAINING_LOSS = Gauge("signalbox_training_loss", "Loss of the training job that runs", ["kind"])
JOBS_ENDED = Counter("signalbox_jobs_ended", "Attempts that ended a job", ["state"])
