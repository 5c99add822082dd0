"""Every model family and every kind of adapter gives what PEFT gives alone, compiled kernels or not."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from shared.model.families import FAMILIES, Use
from tests.support import families
from tests.support.engine_kit import Kit, greedy, ignore

NATIVE = sorted(name for name, family in FAMILIES.items() if Use.ENGINE in family.uses)
METHODS = {
    "lora": {"seed": 1},
    "narrow": {"seed": 2, "r": 2, "target_modules": slice(None, None, 3)},
    "wide": {"seed": 3, "r": 20, "lora_alpha": 10},
    "rslora": {"seed": 4, "r": 8, "lora_alpha": 4, "use_rslora": True},
    "dora": {"seed": 5, "use_dora": True},
    "one layer": {"seed": 6, "layers_to_transform": [1]},
}
ADAPTERS = [*METHODS, "pissa"]
TOKENS = 24
PROMPTS = ["a", "some words to begin with, and then a few more of them", "z" * 40]


def folder_of(kit, name):
    targets = families.linear_names(kit.model)
    if name == "pissa":
        return kit.pissa(name, target_modules=targets)
    options = METHODS[name]
    some = targets[options.get("target_modules", slice(None))]
    return kit.adapter(name, **{**options, "target_modules": some})


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in families.MAIN else pytest.mark.slow) for name in NATIVE],
)
def family(request, tmp_path_factory):
    return Kit(tmp_path_factory.mktemp(request.param), partial(families.build, request.param))


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
        said, logits = family.follow(adapter, text, generation.token_ids)
        agreement.check(generation.token_ids, said[:TOKENS], logits)


def test_what_is_served_here_is_what_is_tested_here():
    assert set(NATIVE) == {*families.MAIN, *families.OTHERS}
    assert set(FAMILIES) == {*NATIVE, *families.EXPERTS}


@pytest.mark.parametrize("method", ADAPTERS)
def test_bfloat16_keeps_close_to_float32(kit, method):
    folder = folder_of(kit, method)
    engine = kit.engine(dtype=torch.bfloat16)
    engine.load_adapter(method, folder)
    request = greedy(kit, "how far is it", method, max_new_tokens=16, logprobs=True)
    generation = engine.generate(request, ignore)
    engine.close()
    assert len(generation.logprobs.logprobs) == len(generation.token_ids) > 0
    exact = kit.logprobs(folder, kit.prompt_ids(request.job_id), generation.token_ids)
    # Its own rounding moves the random model by as much, which no adapter does with the rest of its precision.
    assert max(abs(a - b) for a, b in zip(generation.logprobs.logprobs, exact, strict=True)) < 0.1


def test_a_long_prompt_of_a_large_rank_takes_another_way_to_the_same_answer(kit, agreement):
    engine = kit.engine()
    engine.load_adapter("wide", kit.adapter("wide", **METHODS["wide"]))
    text = "many words " * 30
    generation = engine.generate(greedy(kit, text, "wide", max_new_tokens=8), ignore)
    engine.close()
    agreement.check(generation.token_ids, *kit.known_solo("wide", text, 8))


def test_longrope_is_served_up_to_the_length_before_it_stretches(tmp_path):
    """Beyond it, transformers turns all positions in another way, also those of other rows of the batch."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64, **factors}
    kit = Kit(tmp_path, partial(families.build, "phi3", rope_parameters=rope, original_max_position_embeddings=64))
    engine = kit.engine()
    generation = engine.generate(greedy(kit, "z" * 200, None, max_new_tokens=24), ignore)
    engine.close()
    assert (generation.prompt_tokens, generation.prompt_shortened) == (40, True)


def test_an_answer_ends_at_each_end_token_that_the_model_names(kit):
    engine = kit.engine()
    whole = engine.generate(greedy(kit, "a", None), ignore)
    engine.close()
    engine = kit.engine(end_ids=frozenset({whole.token_ids[3]}))
    cut = engine.generate(greedy(kit, "a", None), ignore)
    engine.close()
    assert (cut.token_ids, cut.finish_reason) == (whole.token_ids[: whole.token_ids.index(whole.token_ids[3])], "stop")
