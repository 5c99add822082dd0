"""Metrics of the worker only; names follow vLLM's, under our prefix."""

from prometheus_client import Counter, Gauge, Histogram

from shared.observability.metrics import SECONDS

ENGINE_UP = Gauge("signalbox_engine_up", "Whether the engine can answer; while it cannot, no jobs are taken")
REQUESTS_RUNNING = Gauge("signalbox_num_requests_running", "Requests in the engine's running batch")
REQUESTS_WAITING = Gauge("signalbox_num_requests_waiting", "Requests that the engine has and has not begun")
BATCH_SIZE = Histogram(
    "signalbox_batch_size", "Requests in one step of the engine", buckets=[1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128]
)
FIRST_TOKEN_SECONDS = Histogram(
    "signalbox_time_to_first_token_seconds", "From the engine taking a request to its first token", buckets=SECONDS
)
OUTPUT_TOKEN_SECONDS = Histogram(
    "signalbox_time_per_output_token_seconds",
    "A request's mean time for each token after the first",
    buckets=[0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5],
)
REQUEST_SECONDS = Histogram(
    "signalbox_e2e_request_latency_seconds", "From a job's arrival at the ledger to its whole answer", buckets=SECONDS
)
PROMPT_TOKENS = Counter("signalbox_prompt_tokens", "Prompt tokens read", ["label"])
GENERATION_TOKENS = Counter("signalbox_generation_tokens", "Tokens generated", ["label"])
CACHE_USED = Gauge("signalbox_kv_cache_usage_ratio", "Share of the cache of keys and values that requests hold")
PREFIX_QUERIES = Counter("signalbox_prefix_cache_queries", "Tokens of prompts looked up in the cache")
PREFIX_HITS = Counter("signalbox_prefix_cache_hits", "Tokens of prompts found in the cache, and not computed again")
ADAPTERS_RESIDENT = Gauge("signalbox_adapters_resident", "Adapters in memory")
ADAPTER_LOADS = Counter("signalbox_adapter_loads", "Adapters loaded into memory")
ADAPTER_EVICTIONS = Counter(
    "signalbox_adapter_evictions", "Adapters taken out of memory: for another (room), or with their release", ["reason"]
)
EVICTED_FOR_ROOM = ADAPTER_EVICTIONS.labels("room")
EVICTED_WITH_RELEASE = ADAPTER_EVICTIONS.labels("release")
