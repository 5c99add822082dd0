"""Models without weights of their own, adapters, and steps of the native engine's runner, on any device."""

import time
from typing import Any, NamedTuple

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.kv_cache import Prefix
from services.adapter_worker.engine.native.lora.weights import AdapterWeights, LowRank
from services.adapter_worker.engine.native.model_runner import ModelRunner
from services.adapter_worker.engine.request_state import RequestState
from tests.support.byte_tokenizer import byte_tokenizer

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
QWEN2_7B = {
    "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32_768,
}  # fmt: skip
TINY = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip


class Adapters(NamedTuple):
    """How many adapters there are, of which rank, on which layers."""

    count: int
    rank: int
    modules: tuple[str, ...]
    is_dora: bool = False


def make_model(shape: dict[str, int], device: torch.device, dtype: torch.dtype) -> Qwen2ForCausalLM:
    """A model of random weights, made on the device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=False)).requires_grad_(False).eval()
    finally:
        torch.set_default_dtype(before)


def make_runner(model: Any, *, on_card: bool, rows: int, slots: int = 64, cache_bytes: int | None) -> ModelRunner:
    """A runner as the engine makes it."""
    return ModelRunner(
        model, byte_tokenizer(), max_batch=rows, adapter_slots=slots, cache_bytes=cache_bytes, kernels=None,
        max_stall_x=1.4, end_ids=frozenset(), on_card=on_card,
    )  # fmt: skip


def load(runner: ModelRunner, config: Qwen2Config, adapters: Adapters) -> list[str | None]:
    """Put adapters into the runner's slots; returns their names."""
    names: list[str | None] = []
    weights = adapter_weights(config, adapters)
    for n in range(adapters.count):
        name = f"{adapters.rank}-{len(adapters.modules)}-{n}"
        if name not in runner.bank:
            runner.bank.reserve(name, weights)
            runner.bank.fill(name, weights)
        names.append(name)
    return names


def adapter_weights(config: Qwen2Config, adapters: Adapters) -> AdapterWeights:
    """One adapter of random weights as it lies on the host."""
    hidden, wide = config.hidden_size, config.intermediate_size
    keys = hidden // config.num_attention_heads * config.num_key_value_heads
    outs = {
        "q_proj": hidden, "k_proj": keys, "v_proj": keys, "o_proj": hidden, "gate_proj": wide, "up_proj": wide,
        "down_proj": hidden,
    }  # fmt: skip
    chance = torch.Generator().manual_seed(adapters.rank)
    low = {}
    for name in adapters.modules:
        into, out = wide if name == "down_proj" else hidden, outs[name]
        low[name] = LowRank(
            torch.randn(adapters.rank, into, generator=chance) / into**0.5,
            torch.randn(out, adapters.rank, generator=chance) / 10,
            torch.rand(out, generator=chance) + 0.5 if adapters.is_dora else None,
            1.0,
        )
    places = {name: f"{'self_attn' if name in ATTENTION else 'mlp'}.{name}" for name in low}
    layers = range(config.num_hidden_layers)
    return AdapterWeights({f"model.layers.{n}.{places[name]}": low[name] for n in layers for name in low})


def seat(
    runner: ModelRunner, adapters: list[str | None], contexts: list[int], *, new_tokens: int, **options: Any
) -> list[RequestState]:
    """Let a request for each adapter join as if all of its prompt but the last token were computed."""
    states = [
        state(runner, n, adapter, length, new_tokens, **options)
        for n, (adapter, length) in enumerate(zip(adapters, contexts, strict=True))
    ]
    for request in states:
        if not runner.admit(request):
            raise RuntimeError("the cache is too small for these requests")
        request.choices[0].cached_count = len(request.prompt_ids) - 1
    return states


def unseat(runner: ModelRunner, states: list[RequestState]) -> None:
    """End requests and free their pages."""
    for request in states:
        if not request.is_done:
            request.fail(RuntimeError("measured"))
    runner.drop_done()


def state(
    runner: ModelRunner, number: int, adapter: str | None, length: int, new_tokens: int, **options: Any
) -> RequestState:
    """A request in the form that joins the batch."""
    request = GenerationRequest(str(number), 1, [], adapter, max_new_tokens=new_tokens, **options)
    return RequestState(
        request, [(7 * n + number) % 250 for n in range(length)], prefix=Prefix(adapter, ()), prompt_shortened=False,
        on_piece=lambda _piece: None, texts=runner.texts, started=time.monotonic(),
    )  # fmt: skip
