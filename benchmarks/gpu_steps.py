"""Copies and operations of one decode step of the native engine's path on a card, counted without a card.

64 rows of a model of Qwen2-7B's shape, over 32 adapters of rank 8 on all linear layers; half of them draw their tokens.
The card's tensors are meta tensors, which have shapes alone; a launch of a Triton kernel counts as one operation, and
views as none. `torch` is the way without the kernels.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import argparse
from typing import Any

import torch

from benchmarks.common import Row, print_table, row, write_results
from benchmarks.gpu.kit import ALL, QWEN2_7B, Adapters, load, make_model, make_runner, state
from services.adapter_worker.engine.native.model_runner import ModelRunner
from tests.support.two_devices import CARD, TwoDevices, two_devices

ROWS, CONTEXT = 64, 512
ADAPTERS = Adapters(32, 8, ALL)
WAYS = {"": True, "_torch": False}
GOALS = {"copies_per_step": 2, "ops_per_step_mixed": 1700, "ops_per_step_base": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    rows: list[Row] = []
    for way, on_card in WAYS.items():
        for key, value in figures(on_card=on_card).items():
            goal: dict[str, Any] = {"goal": GOALS[key], "at_least": False} if on_card else {}
            rows.append(row(f"{key}{way}", value, "copies" if "copies" in key else "operations", **goal))
    print_table(rows)
    print(write_results("gpu_steps", rows))


def figures(*, on_card: bool) -> dict[str, int]:
    """One step of rows with adapters, and one of the base model alone."""
    with two_devices() as devices, torch.inference_mode():
        model = make_model(QWEN2_7B, CARD, torch.bfloat16)
        runner = make_runner(model, on_card=on_card, rows=ROWS, cache_bytes=4 << 30)
        names = load(runner, model.config, ADAPTERS)
        copies, mixed = count(devices, runner, names * (ROWS // len(names)))
        _, base = count(devices, runner, [None] * ROWS)
    return {"copies_per_step": copies, "ops_per_step_mixed": mixed, "ops_per_step_base": base}


def count(devices: TwoDevices, runner: ModelRunner, adapters: list[str | None]) -> tuple[int, int]:
    """One decode step of a row for each adapter: copies between host and card, operations on the card."""
    requests = [state(runner, n, adapter, CONTEXT - n, 8, **options_of(n)) for n, adapter in enumerate(adapters)]
    for request in requests:
        assert runner.admit(request)
        request.choices[0].cached_count = len(request.prompt_ids) - 1  # as if all but the last token were computed
    devices.forget()
    runner.step()
    copies, operations = sum(devices.copies.values()), sum(devices.operations.values())
    for request in requests:
        assert [len(choice.token_ids) for choice in request.choices] == [1]
        request.fail(RuntimeError("the count is over"))
    runner.drop_done()
    return copies, operations


def options_of(number: int) -> dict[str, Any]:
    """Every second row draws its tokens; some are penalised, some ask for alternatives."""
    drawn = {"temperature": 0.7, "top_p": 0.9, "top_k": 40 * (number % 4 > 1)} if number % 2 else {}
    told = {"logprobs": number % 5 == 0, "top_logprobs": 3 * (number % 5 == 0)}
    return {"presence_penalty": number % 3 / 2, **told, **drawn}


if __name__ == "__main__":
    main()
