"""One mixed batch against one-by-one switching: tokens per second for 8 requests over 4 adapters."""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from benchmarks.common import median_row, print_table, write_results
from services.adapter_worker.infra.engines import GenerationRequest
from services.adapter_worker.infra.engines.runner import end_token_ids
from services.adapter_worker.infra.engines.transformers import TransformersEngine
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.tokens import encode
from shared.prompts import chatml
from shared.settings import Settings

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXTS = [
    "The shares fell by nine percent after the report.",
    "How do I change the limit of my credit card?",
    "Please name the parties of this contract and the day on which it ends.",
    "My card was declined in a shop today although there is money on the account. What should I do?",
]


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    base = resolve_base_model(Settings())
    tokenizer = load_tokenizer(base)
    with tempfile.TemporaryDirectory() as folder:
        adapters = make_adapters(load_model(base, "float32"), Path(folder), args.adapters)
        requests = make_requests(list(adapters), args.requests, args.tokens)
        switching = Switching(base, tokenizer, adapters)
        mixed, single = (engine(base, tokenizer, adapters, size, args.threads) for size in (args.requests, 1))
        runs = {
            "switching": lambda: switching.run(requests),
            "mixed": lambda: run_engine(mixed, requests),
            "one by one in the engine": lambda: run_engine(single, requests),
        }
        speeds = [paired(runs) for _ in range(args.runs + 1)][1:]  # the first pair warms up
        mixed.close()
        single.close()
    report(speeds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def make_adapters(model: Any, folder: Path, count: int) -> dict[str, Path]:
    """Adapters of rank 8 with small random weights, by name."""
    for n in range(count):
        torch.manual_seed(n)
        config = LoraConfig(r=8, target_modules=TARGETS, task_type="CAUSAL_LM", init_lora_weights=False, lora_alpha=1)
        peft = get_peft_model(model, config)
        peft.save_pretrained(folder / str(n))
        model = peft.unload()
    return {f"adapter-{n}": folder / str(n) for n in range(count)}


def make_requests(adapters: list[str], count: int, tokens: int) -> list[GenerationRequest]:
    """Neighbours use different adapters, as in mixed traffic."""
    return [
        GenerationRequest(
            job_id=str(n), attempt=1, prompt=chatml("You are a helpful assistant.", TEXTS[n % len(TEXTS)]),
            adapter=adapters[n % len(adapters)], max_new_tokens=tokens,
        )
        for n in range(count)
    ]  # fmt: skip


class Switching:
    """What a server without mixed batches does: set the adapter, generate, next request."""

    def __init__(self, base: Path, tokenizer: Any, adapters: dict[str, Path]) -> None:
        self.tokenizer = tokenizer
        (first, folder), *others = adapters.items()
        self.model = PeftModel.from_pretrained(load_model(base, "float32"), str(folder), adapter_name=first).eval()
        for name, folder in others:
            self.model.load_adapter(str(folder), adapter_name=name)

    @torch.inference_mode()
    def run(self, requests: list[GenerationRequest]) -> int:
        return sum(self.generate(request) for request in requests)

    def generate(self, request: GenerationRequest) -> int:
        self.model.set_adapter(request.adapter)
        ids = torch.tensor([encode(self.tokenizer, request.prompt, 1024)])
        ends = list(end_token_ids(self.tokenizer))
        out = self.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=request.max_new_tokens,
            pad_token_id=ends[0], eos_token_id=ends,
        )  # fmt: skip
        made: list[int] = out[0, ids.shape[1] :].tolist()
        return len([token for token in made if token not in ends])


def engine(base: Path, tokenizer: Any, adapters: dict[str, Path], size: int, threads: int) -> TransformersEngine:
    engine = TransformersEngine(load_model(base, "float32"), tokenizer, encode, max_batch=size, torch_threads=threads)
    for name, folder in adapters.items():
        engine.load_adapter(name, folder)
    return engine


def run_engine(engine: TransformersEngine, requests: list[GenerationRequest]) -> int:
    with ThreadPoolExecutor(len(requests)) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, lambda _: None), requests))
    return sum(len(generation.token_ids) for generation in generations)


def paired(runs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Tokens per second of each way, one after the other, so that a slow minute slows all of them."""
    speeds = {}
    for name, run in runs.items():
        started = time.perf_counter()
        tokens = run()
        speeds[name] = tokens / (time.perf_counter() - started)
    return speeds


def report(speeds: list[dict[str, float]]) -> None:
    def ratio(one: str, other: str) -> list[float]:
        return [pair[one] / pair[other] for pair in speeds]

    rows = [
        median_row("mixed8_vs_switch_x", ratio("mixed", "switching"), "x", goal=2.5),
        median_row("mixed8_vs_engine1_x", ratio("mixed", "one by one in the engine"), "x"),
        median_row("mixed8_tokens_per_s", [pair["mixed"] for pair in speeds], "tokens/s"),
        median_row("switch_tokens_per_s", [pair["switching"] for pair in speeds], "tokens/s"),
    ]
    print_table(rows)
    print(write_results("mixed_batch", rows))


if __name__ == "__main__":
    main()
