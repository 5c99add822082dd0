"""How much longer a decode step takes while another request's 2,000-token prompt is computed."""

import argparse
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

from benchmarks.adapters_kit import TEXTS, engine
from benchmarks.common import median_row, print_table, write_results
from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.engine import NativeEngine
from shared.contracts.built_in_templates import BASE_INSTRUCTION, adapter_prompt
from shared.contracts.conversation import single_turn

PROMPT_TOKENS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with engine(size=args.rows + 1, max_prompt_tokens=PROMPT_TOKENS) as made:
        stalls = [stall(made, args.rows) for _ in range(args.runs + 1)][1:]
    rows = [
        median_row("prefill_stall_x", [middle for middle, _, _ in stalls], "x", goal=1.5, at_least=False),
        median_row("prefill_stall_p95_x", [high for _, high, _ in stalls], "x"),
        median_row("prefill_2000_seconds", [seconds for _, _, seconds in stalls], "s"),
    ]
    print_table(rows)
    print(write_results("prefill_stall", rows))


def stall(made: NativeEngine, rows: int) -> tuple[float, float, float]:
    """Median and 95th percentile of steps beside the prefill over the median of those before it, and its seconds."""
    times: list[float] = []
    enough = threading.Event()

    def note(_text: str) -> None:
        times.append(time.perf_counter())
        if len(times) > 20:
            enough.set()

    with ThreadPoolExecutor(rows + 1) as pool:
        first = [pool.submit(made.generate, request(n), note if n == 0 else lambda _: None) for n in range(rows)]
        enough.wait(60)
        began = time.perf_counter()
        made.generate(request(rows, text="word " * 3 * PROMPT_TOKENS, tokens=1), lambda _: None)
        ended = time.perf_counter()
        for n in range(rows):
            made.cancel(str(n), 1)
        for one in first:
            one.exception()
    usual = [after - before for before, after in pairwise(times) if after < began]
    beside = [after - before for before, after in pairwise(times) if began < before and after < ended]
    middle = statistics.median(usual)
    return statistics.median(beside) / middle, statistics.quantiles(beside, n=20)[-1] / middle, ended - began


def request(number: int, text: str = "", tokens: int = 1000) -> GenerationRequest:
    text = text or TEXTS[number % len(TEXTS)]
    return GenerationRequest(
        job_id=str(number), attempt=1, prompt=adapter_prompt("chatml", single_turn(BASE_INSTRUCTION, text)),
        adapter=None, max_new_tokens=tokens, temperature=1.0, seed=number,
    )  # fmt: skip


if __name__ == "__main__":
    main()
