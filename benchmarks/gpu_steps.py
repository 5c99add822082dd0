"""Copies and operations of one decode step of the native engine's path on a card, counted without a card.

64 rows of a model of Qwen2-7B's shape, over 32 adapters of rank 8 on all linear layers; half of them draw their tokens.
The card's tensors are meta tensors, which have shapes alone; a launch of a Triton kernel counts as one operation.
`torch` is the way without the kernels.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import argparse
import time
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.common import Row, print_table, row, write_results
from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.native.lora.weights import AdapterWeights, LowRank
from services.adapter_worker.engine.native.model_runner import ModelRunner
from services.adapter_worker.engine.request_state import RequestState
from tests.support.engine_kit import byte_tokenizer
from tests.support.two_devices import CARD, TwoDevices, two_devices

ROWS, ADAPTERS, RANK, CONTEXT = 64, 32, 8, 512
WAYS = {"": True, "_torch": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    rows: list[Row] = []
    for name, on_card in WAYS.items():
        goal = (lambda most: {"goal": most, "at_least": False}) if on_card else (lambda _most: {})
        with two_devices() as devices, torch.inference_mode():
            runner = make_runner(on_card=on_card)
            copies, mixed = count(devices, runner, [f"adapter-{n % ADAPTERS}" for n in range(ROWS)])
            _, base = count(devices, runner, [None] * ROWS)
        rows += [
            row(f"copies_per_step{name}", copies, "copies", **goal(2)),
            row(f"ops_per_step_mixed{name}", mixed, "operations", **goal(1700)),
            row(f"ops_per_step_base{name}", base, "operations", **goal(1000)),
        ]
    print_table(rows)
    print(write_results("gpu_steps", rows))


def make_runner(*, on_card: bool) -> ModelRunner:
    """A runner of the model without weights, with all adapters loaded."""
    config = Qwen2Config(
        vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=32_768, tie_word_embeddings=False,
    )  # fmt: skip
    with CARD:
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    runner = ModelRunner(
        model, byte_tokenizer(), max_batch=ROWS, adapter_slots=64, cache_bytes=4 << 30, kernels=None, max_stall_x=1.4,
        end_ids=frozenset(), on_card=on_card,
    )  # fmt: skip
    weights = adapter_weights(config)
    for n in range(ADAPTERS):
        runner.bank.reserve(f"adapter-{n}", weights)
        runner.bank.fill(f"adapter-{n}", weights)
    return runner


def adapter_weights(config: Qwen2Config) -> AdapterWeights:
    """An adapter on all linear layers, as it lies on the host."""
    hidden, wide = config.hidden_size, config.intermediate_size
    keys = hidden // config.num_attention_heads * config.num_key_value_heads
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (hidden, keys), "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (hidden, wide), "mlp.up_proj": (hidden, wide),
        "mlp.down_proj": (wide, hidden),
    }  # fmt: skip
    low = {
        name: LowRank(
            torch.zeros(RANK, into, dtype=torch.bfloat16), torch.zeros(out, RANK, dtype=torch.bfloat16), None, 1.0
        )
        for name, (into, out) in shapes.items()
    }
    layers = range(config.num_hidden_layers)
    return AdapterWeights({f"model.layers.{n}.{name}": weights for n in layers for name, weights in low.items()})


def count(devices: TwoDevices, runner: ModelRunner, adapters: list[str | None]) -> tuple[int, int]:
    """Count one decode step of a row for each adapter: copies between host and card, operations."""
    requests = [state(runner, n, adapter) for n, adapter in enumerate(adapters)]
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


def state(runner: ModelRunner, number: int, adapter: str | None) -> RequestState:
    """A request in the form that joins the batch; every second one draws its tokens, and some are penalised."""
    options: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "top_k": 40 * (number % 4 > 1)} if number % 2 else {}
    request = GenerationRequest(
        job_id=str(number), attempt=1, prompt=[], adapter=adapter, max_new_tokens=8,
        presence_penalty=number % 3 / 2, logprobs=number % 5 == 0, top_logprobs=number % 5, **options,
    )  # fmt: skip
    return RequestState(
        request, [7] * (CONTEXT - number), prefix=Prefix(adapter, ()), prompt_shortened=False,
        on_piece=lambda _piece: None, texts=runner.texts, started=time.monotonic(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
