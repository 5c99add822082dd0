"""32 requests of the base model and over 12 adapters: our engine against a vLLM server on the same machine.

Tokens per CPU-second, each on one thread; with `--threads 2` by wall clock, each with the whole machine. A vLLM server
is two processes, its HTTP server and its engine core; both count, and `…_vs_vllm_core_x` leaves the HTTP server out.
Our engine has none: its rows count all of this process while it works, including the threads that send requests. The
comparison favours vLLM: its prefix cache is warm, it sends whole answers instead of streams, and its base model runs on
a server without adapter slots, which would slow it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import httpx
import torch

from benchmarks.adapters_kit import engine, make_adapters, make_requests, run_engine
from benchmarks.common import median_row, print_table, row, write_results
from services.adapter_worker.engine import GenerationRequest
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.tokens import encode
from shared.settings import Settings
from tests.support.vllm_process import MISSING, VllmProcess, find_python, vllm_process

ADAPTERS = 12
SLOTS = ("--enable-lora", "--max-loras", str(ADAPTERS), "--max-cpu-loras", str(ADAPTERS), "--max-lora-rank", "8")
PROMPT_TOKENS = 1024


class Speed(NamedTuple):
    """Tokens per CPU-second of all processes, per CPU-second of the engine core, and per second of wall clock."""

    per_cpu_s: float
    per_core_cpu_s: float
    per_s: float


def main() -> None:
    args = arguments()
    python = find_python()
    if python is None:
        print(f"skipped: {MISSING}")
        return
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters = make_adapters(folder / "adapters", ADAPTERS)
        base = make_requests([None], args.requests, args.tokens)
        mixed = make_requests(list(adapters), args.requests, args.tokens)
        with (
            peer(python, folder / "plain", args) as plain,
            peer(python, folder / "lora", args, *SLOTS) as lora,
            engine(args.dtype, size=args.requests, torch_threads=args.threads) as ours,
        ):
            ours._runner._end_ids = frozenset()  # no answer ends early, on either side
            vllm_base, vllm_mixed = VllmClient(plain, {}), VllmClient(lora, adapters)
            for digest, weights in adapters.items():
                ours.load_adapter(digest, weights)
            runs = {
                "base": lambda: timed_run(lambda: run_engine(ours, base)),
                "vllm_base": lambda: vllm_base.timed(base),
                "mixed": lambda: timed_run(lambda: run_engine(ours, mixed)),
                "vllm_mixed": lambda: vllm_mixed.timed(mixed),
            }
            speeds = [{name: run() for name, run in runs.items()} for _ in range(args.runs + 1)][1:]  # the first warms
    report(speeds) if args.threads == 1 else report_by_wall(speeds)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def peer(python: str, folder: Path, args: argparse.Namespace, *options: str) -> AbstractContextManager[VllmProcess]:
    model = resolve_base_model(Settings())
    length = ("--max-model-len", "2048")
    return vllm_process(python, model, folder, "--dtype", args.dtype, *length, *options, threads=args.threads)


class VllmClient:
    """A client of a vLLM server that loads all adapters and sends the same token ids as to our engine."""

    def __init__(self, server: VllmProcess, adapters: dict[str, Path]) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=600)
        self.tokenizer = load_tokenizer(resolve_base_model(Settings()))
        for name, folder in adapters.items():
            self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def timed(self, requests: Sequence[GenerationRequest]) -> Speed:
        server = self.server
        started, started_cpu, started_core = time.perf_counter(), server.cpu_seconds, server.core_cpu_seconds
        tokens = self.run(requests)
        return Speed(
            tokens / (server.cpu_seconds - started_cpu),
            tokens / (server.core_cpu_seconds - started_core),
            tokens / (time.perf_counter() - started),
        )

    def run(self, requests: Sequence[GenerationRequest]) -> int:
        with ThreadPoolExecutor(len(requests)) as pool:
            return sum(pool.map(self.complete, requests))

    def complete(self, request: GenerationRequest) -> int:
        body = {
            "model": request.adapter or "base", "prompt": encode(self.tokenizer, request.prompt, PROMPT_TOKENS),
            "max_tokens": request.max_new_tokens, "temperature": 0, "ignore_eos": True,
        }  # fmt: skip
        return int(self.post("/v1/completions", body).json()["usage"]["completion_tokens"])

    def post(self, path: str, body: dict) -> httpx.Response:
        return self.http.post(path, json=body).raise_for_status()


def timed_run(run: Callable[[], int]) -> Speed:
    started, started_cpu = time.perf_counter(), time.process_time()
    tokens = run()
    per_cpu_s = tokens / (time.process_time() - started_cpu)
    return Speed(per_cpu_s, per_cpu_s, tokens / (time.perf_counter() - started))


def report(speeds: list[dict[str, Speed]]) -> None:
    def ratio(name: str, part: str = "per_cpu_s") -> list[float]:
        return [getattr(pair[name], part) / getattr(pair[f"vllm_{name}"], part) for pair in speeds]

    def speed(name: str, part: str) -> list[float]:
        return [getattr(pair[name], part) for pair in speeds]

    rows = [
        median_row("mixed12_vs_vllm_x", ratio("mixed"), "x", goal=1.7),
        median_row("base_vs_vllm_x", ratio("base"), "x", goal=0.8),
        median_row("mixed12_vs_vllm_core_x", ratio("mixed", "per_core_cpu_s"), "x"),
        median_row("base_vs_vllm_core_x", ratio("base", "per_core_cpu_s"), "x"),
        *(median_row(f"peer_{name}_tokens_per_cpu_s", speed(name, "per_cpu_s"), "tokens/CPU s") for name in speeds[0]),
        *(median_row(f"peer_{name}_tokens_per_s", speed(name, "per_s"), "tokens/s") for name in speeds[0]),
    ]
    print_table(rows)
    print(write_results("vllm_peer", rows))


def report_by_wall(speeds: list[dict[str, Speed]]) -> None:
    """Ratios of the medians of tokens a second; the base model's shows whether the peer's build is slow."""
    medians = {name: statistics.median(pair[name].per_s for pair in speeds) for name in speeds[0]}
    rows = [
        row("mixed12_vs_vllm_wall_x", medians["mixed"] / medians["vllm_mixed"], "x", goal=4),
        row("base_vs_vllm_wall_x", medians["base"] / medians["vllm_base"], "x"),
        *(
            median_row(f"wall_{name}_tokens_per_s", [pair[name].per_s for pair in speeds], "tokens/s")
            for name in medians
        ),
    ]
    print_table(rows)
    print(write_results("vllm_peer_wall", rows))


if __name__ == "__main__":
    main()
