"""What the engine's benchmarks share: random adapters, mixed requests, an engine, tokens per CPU-second."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.engine import NativeEngine
from services.adapter_worker.engine.native.kernels import load_kernels
from shared.contracts.built_in_templates import BASE_INSTRUCTION, adapter_prompt
from shared.contracts.conversation import single_turn
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.tokens import encode
from shared.settings import Settings

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXTS = [
    "The shares fell by nine percent after the report.",
    "How do I change the limit of my credit card?",
    "Please name the parties of this contract and the day on which it ends.",
    "My card was declined in a shop today although there is money on the account. What should I do?",
]


def make_adapters(folder: Path, count: int, rank: int = 8, name: str = "adapter", **options: Any) -> dict[str, Path]:
    """Adapters with small random weights on all linear layers, by name."""
    torch.manual_seed(0)
    settings = {"r": rank, "target_modules": TARGETS, "task_type": "CAUSAL_LM", "lora_alpha": 1, **options}
    config = LoraConfig(init_lora_weights=False, **settings)
    peft = get_peft_model(load_model(resolve_base_model(Settings()), "float32"), config)
    for n in range(count):
        for parameter, weight in peft.named_parameters():
            if "lora_" in parameter:
                torch.nn.init.normal_(weight.data, std=0.05)
        peft.save_pretrained(folder / f"{name}-{n}")
    return {f"{name}-{n}": folder / f"{name}-{n}" for n in range(count)}


def copies(adapter: Path, folder: Path, count: int) -> dict[str, Path]:
    """The same weights under many names, which the engine treats as different adapters."""
    for n in range(count):
        shutil.copytree(adapter, folder / str(n))
    return {f"copy-{n}": folder / str(n) for n in range(count)}


def make_requests(adapters: Sequence[str | None], count: int, tokens: int) -> list[GenerationRequest]:
    """Neighbours use different adapters, as in mixed traffic."""
    return [
        GenerationRequest(
            job_id=str(n), attempt=1,
            prompt=adapter_prompt("chatml", single_turn(BASE_INSTRUCTION, TEXTS[n % len(TEXTS)])),
            adapter=adapters[n % len(adapters)], max_new_tokens=tokens,
        )
        for n in range(count)
    ]  # fmt: skip


@contextmanager
def engine(dtype: str = "bfloat16", *, size: int = 32, slots: int = 32, **options: Any) -> Iterator[NativeEngine]:
    """The engine as a worker builds it."""
    settings = Settings()
    base = resolve_base_model(settings)
    made = NativeEngine(
        load_model(base, dtype), load_tokenizer(base), encode, max_batch=size, adapter_slots=slots,
        cache_bytes=(settings.cache_mib or 512) << 20, kernels=load_kernels(settings.cache_dir / "kernels"), **options,
    )  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def run_engine(made: NativeEngine, requests: list[GenerationRequest]) -> int:
    """Send all requests at once; returns the number of generated tokens."""
    with ThreadPoolExecutor(len(requests)) as pool:
        generations = list(pool.map(lambda request: made.generate(request, lambda _: None), requests))
    return sum(len(generation.token_ids) for generation in generations)


def paired(runs: dict[str, Callable[[], int]]) -> dict[str, tuple[float, float]]:
    """Tokens per CPU-second and per second of each way, run in turns, so that a slow minute affects all alike."""
    speeds = {}
    for name, run in runs.items():
        started, started_cpu = time.perf_counter(), time.process_time()
        tokens = run()
        speeds[name] = (tokens / (time.process_time() - started_cpu), tokens / (time.perf_counter() - started))
    return speeds
