"""The adapter that a training would make, checked before it is trained."""

import pytest

from shared.adapter_files import AdapterLimits, BaseShapes, check_planned, check_trainable
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

LAYERS = 20
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj")
BASE = BaseShapes(
    {
        f"model.layers.{layer}.{name}": (64, 32) if name == "up_proj" else (256, 192)
        for layer in range(LAYERS)
        for name in NAMES
    }
    | {"lm_head": (1000, 192)}
)
FULL = [name for name in BASE.modules if name != "lm_head"]


def refusal(check=check_planned, limits=AdapterLimits(), **settings):  # noqa: B008
    try:
        check(LoraSettings(**settings), BASE, *([limits] if check is check_planned else []))
    except Invalid as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": FULL[:64]},
        {"target_modules": FULL},  # PEFT writes these as five names
        {"method": "pissa", "rank": 128},
        {"method": "dora", "rank": 256, "target_modules": ["up_proj"]},
        {"target_modules": ["lm_head", "q_proj"]},
        {"top_layers": 1},
        {"target_modules": FULL[:65]},
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_the_store_takes_may_be_trained(settings):
    assert refusal(**settings) is None


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"target_modules": ["model.layers.*.q_proj"]}, "target_modules_unknown"),
        ({"target_modules": ["q_proj", "q_proj"]}, None),
        ({"method": "pissa", "rank": 129}, "adapter_rank_too_large"),
        ({"method": "pissa", "rank": 33, "target_modules": ["up_proj"]}, "rank_too_large"),
        ({"method": "pissa", "rank": 33, "target_modules": "all-linear"}, "rank_too_large"),
        ({"target_modules": ["embed_tokens"]}, "target_modules_unknown"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "target_modules_unknown"),
        ({"target_modules": ["lm_head"], "top_layers": 2}, "target_modules_unknown"),
        ({"target_modules": ["layers.3.q_proj"], "top_layers": 2}, "target_modules_unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_the_store_would_refuse_is_refused_before_the_training(settings, code):
    assert refusal(**settings) == code


def test_weights_above_the_limit_are_refused_before_the_training():
    size = 4 * 4 * LAYERS * 8 * (256 + 192)
    assert refusal(limits=AdapterLimits(max_bytes=size)) is None
    assert refusal(limits=AdapterLimits(max_bytes=size - 1)) == "adapter_too_large"


def test_a_refusal_says_what_there_is_and_why_the_rank_counts_twice():
    with pytest.raises(Invalid, match="it has k_proj, lm_head, o_proj, q_proj, up_proj, v_proj: name these"):
        check_planned(LoraSettings(target_modules=["embed_tokens"]), BASE, AdapterLimits())
    with pytest.raises(Invalid, match=r"rank 258 is above the limit of 256.*pissa is stored with twice its rank"):
        check_planned(LoraSettings(method="pissa", rank=129), BASE, AdapterLimits())


def test_a_selector_needs_one_layer_to_train_and_no_more_components_than_it_has():
    assert refusal(check_trainable, target_modules=["q_proj", "out_proj"]) is None
    assert refusal(check_trainable, target_modules=["out_proj"]) == "target_modules_unknown"
    assert refusal(check_trainable, method="pissa", rank=64, target_modules=["up_proj"]) == "rank_too_large"
