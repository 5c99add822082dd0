"""32 requests over 12 adapters: the engine's mixed batch against its own base model and against PEFT's two ways.

`mixed8_vs_switch_x` is a small batch, 8 requests over 4 adapters, in tokens a second of wall clock.
`mixed12_patterns_vs_base` is the large batch over adapters whose modules differ in rank (4 to 16) and alpha. A batch of
ours takes seconds and is a tenth apart from its base model's, which is no more than a shared machine's noise: they are
run in many pairs. PEFT takes half a minute and is several times apart: it is run in a few.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from benchmarks.adapters_kit import engine, make_adapters, make_requests, paired, run_engine
from benchmarks.common import median_row, print_table, write_results
from services.adapter_worker.engine import GenerationRequest
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.tokens import encode
from shared.settings import Settings

Speeds = dict[str, tuple[float, float]]
"""Tokens per CPU-second and per second, by way."""
PER_CPU_S, PER_S = 0, 1
ADAPTERS = 12
PATTERNS: dict[str, Any] = {
    "rank_pattern": {"o_proj": 16, "k_proj": 4, "gate_proj": 4, "up_proj": 4},
    "alpha_pattern": {"down_proj": 2},
}
SWITCHED = 6
"""Requests of the one-by-one way: each costs the same, so a few tell the speed of all."""


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        adapters = make_adapters(Path(folder), ADAPTERS)
        patterned = make_adapters(Path(folder), ADAPTERS, name="patterned", **PATTERNS)
        mixed = make_requests(list(adapters), args.requests, args.tokens)
        by_module = make_requests(list(patterned), args.requests, args.tokens)
        eight = make_requests(list(adapters)[:4], 8, args.tokens)
        base = make_requests([None], args.requests, args.tokens)
        peft = Peft(adapters, args.dtype)
        with engine(args.dtype, size=args.requests, slots=48, torch_threads=args.threads) as ours:
            for name, weights in (adapters | patterned).items():
                ours.load_adapter(name, weights)
            batches = {
                "base": lambda: run_engine(ours, base),
                "mixed": lambda: run_engine(ours, mixed),
                "patterns": lambda: run_engine(ours, by_module),
            }
            ways = {
                "mixed": batches["mixed"],
                "mixed8": lambda: run_engine(ours, eight),
                "peft": lambda: peft.mixed(mixed),
                "switch": lambda: peft.one_by_one(mixed[:SWITCHED]),
            }
            pairs = [paired(batches) for _ in range(args.pairs + 1)][1:]  # the first pair warms up
            runs = [paired(ways) for _ in range(args.runs + 1)][1:]
    report(pairs, runs)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--pairs", type=int, default=31, help="of our mixed batch and its base model")
    parser.add_argument("--runs", type=int, default=9, help="of our batches and PEFT's")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Peft:
    """What PEFT offers by itself: a mixed batch by `adapter_names`, or `set_adapter` before each request."""

    def __init__(self, adapters: dict[str, Path], dtype: str) -> None:
        folder = resolve_base_model(Settings())
        self.tokenizer = load_tokenizer(folder)
        (first, weights), *others = adapters.items()
        options = {"autocast_adapter_dtype": False}
        model = load_model(folder, dtype)
        self.model = PeftModel.from_pretrained(model, str(weights), adapter_name=first, **options).eval()
        for name, weights in others:
            self.model.load_adapter(str(weights), adapter_name=name, **options)
        self.model.to(getattr(torch, dtype))

    def mixed(self, requests: Sequence[GenerationRequest]) -> int:
        return self.generate(requests, adapter_names=[request.adapter for request in requests])

    def one_by_one(self, requests: Sequence[GenerationRequest]) -> int:
        return sum(self.switch(request) for request in requests)

    def switch(self, request: GenerationRequest) -> int:
        self.model.set_adapter(request.adapter)
        return self.generate([request])

    @torch.inference_mode()
    def generate(self, requests: Sequence[GenerationRequest], **options: Any) -> int:
        prompts = [encode(self.tokenizer, request.prompt, 1024) for request in requests]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        count = requests[0].max_new_tokens
        out = self.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=count, min_new_tokens=count,
            pad_token_id=0, **options,
        )  # fmt: skip
        return int(out[:, longest:].numel())


def report(pairs: list[Speeds], runs: list[Speeds]) -> None:
    def ratio(speeds: list[Speeds], way: str, other: str, unit: int = PER_CPU_S) -> list[float]:
        return [pair[way][unit] / pair[other][unit] for pair in speeds]

    measured = {name: [pair[name] for pair in pairs] for name in pairs[0]}
    measured |= {name: [run[name] for run in runs] for name in runs[0] if name not in measured}
    rows = [
        median_row("mixed12_vs_base", ratio(pairs, "mixed", "base"), "x", goal=0.9),
        median_row("mixed12_patterns_vs_base", ratio(pairs, "patterns", "base"), "x", goal=0.85),
        median_row("mixed12_vs_peft_x", ratio(runs, "mixed", "peft"), "x", goal=3),
        median_row("mixed12_vs_switch_x", ratio(runs, "mixed", "switch"), "x", goal=12),
        median_row("mixed8_vs_switch_x", ratio(runs, "mixed8", "switch", PER_S), "x", goal=2.5),
        *(
            median_row(f"{name}_tokens_per_cpu_s", [one[PER_CPU_S] for one in found], "tokens/CPU s")
            for name, found in measured.items()
        ),
        *(
            median_row(f"{name}_tokens_per_s", [one[PER_S] for one in found], "tokens/s")
            for name, found in measured.items()
        ),
    ]
    print_table(rows)
    print(write_results("mixed_batch", rows))


if __name__ == "__main__":
    main()
