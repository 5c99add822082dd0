"""Every model family and every kind of adapter gives what PEFT gives alone, compiled kernels or not."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.support.engine_kit import Kit, greedy, ignore

SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.15, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
WINDOW = {"sliding_window": 24}  # shorter than the prompts, so that it matters
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 32}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {"head_dim": 16}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 16, **WINDOW}),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, {"head_dim": 16, **WINDOW}),
    "mistral": (MistralConfig, MistralForCausalLM, {"head_dim": 16, **WINDOW}),
}
METHODS = {
    "lora": {"seed": 1},
    "narrow": {"seed": 2, "r": 2, "target_modules": ["q_proj", "v_proj"]},
    "wide": {"seed": 3, "r": 20, "lora_alpha": 10},
    "rslora": {"seed": 4, "r": 8, "lora_alpha": 4, "use_rslora": True},
    "dora": {"seed": 5, "use_dora": True},
    "one layer": {"seed": 6, "layers_to_transform": [1]},
}
ADAPTERS = [*METHODS, "pissa"]
TOKENS = 24
PROMPTS = ["a", "some words to begin with, and then a few more of them", "z" * 40]


def folder_of(kit, name):
    return kit.pissa(name) if name == "pissa" else kit.adapter(name, **METHODS[name])


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    config, model, options = FAMILIES[request.param]
    torch.manual_seed(7)
    build = lambda tokens: model(config(**{**SIZES, "vocab_size": tokens, **options}))  # noqa: E731
    kit = Kit(tmp_path_factory.mktemp(request.param), build)
    for bias in (module.bias for module in kit.model.modules() if isinstance(module, torch.nn.Linear)):
        if bias is not None:
            torch.nn.init.normal_(bias, std=0.1)
    return kit


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "torch"])
def test_mixed_adapters_answer_as_each_alone(family, kernels, agreement):
    engine = family.engine(kernels=family.kernels if kernels else None, max_batch=32)
    for name in ADAPTERS:
        engine.load_adapter(name, folder_of(family, name))
    asked = [(adapter, text) for text in PROMPTS for adapter in (None, *ADAPTERS)]
    requests = [greedy(family, text, adapter, max_new_tokens=TOKENS) for adapter, text in asked]
    with ThreadPoolExecutor(len(requests)) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    engine.close()
    for (adapter, text), generation in zip(asked, generations, strict=True):
        tokens, logits = family.known_solo(adapter, text, TOKENS)
        agreement.check(generation.token_ids, tokens, logits)


@pytest.mark.parametrize("method", ADAPTERS)
def test_bfloat16_keeps_close_to_float32(kit, method):
    folder = folder_of(kit, method)
    engine = kit.engine(dtype=torch.bfloat16)
    engine.load_adapter(method, folder)
    request = greedy(kit, "how far is it", method, max_new_tokens=16, logprobs=True)
    generation = engine.generate(request, ignore)
    engine.close()
    assert len(generation.logprobs) == len(generation.token_ids) > 0
    exact = kit.logprobs(folder, kit.prompt_ids(request.job_id), generation.token_ids)
    # Its own rounding moves the random model by as much, which no adapter does with the rest of its precision.
    assert max(abs(a - b) for a, b in zip(generation.logprobs, exact, strict=True)) < 0.1


def test_a_long_prompt_of_a_large_rank_takes_another_way_to_the_same_answer(kit, agreement):
    engine = kit.engine()
    engine.load_adapter("wide", kit.adapter("wide", **METHODS["wide"]))
    text = "many words " * 30
    generation = engine.generate(greedy(kit, text, "wide", max_new_tokens=8), ignore)
    engine.close()
    agreement.check(generation.token_ids, *kit.known_solo("wide", text, 8))
