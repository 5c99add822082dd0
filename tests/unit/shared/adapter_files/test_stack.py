"""What a sum of adapters is as one adapter, before anything is computed."""

import pytest

from shared.adapter_files import AdapterLimits, BaseShapes
from shared.adapter_files.stack import (
    check_composable,
    check_merged,
    check_over,
    check_stack,
    config_of,
    ranks_of,
    stacked,
)
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

Q, V, UP = ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", "model.layers.0.mlp.up_proj")
BASE = BaseShapes({Q: (16, 16), V: (8, 16), UP: (24, 16)})
CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "lora_alpha": 1}
SMALL = AdapterLimits(max_rank=12)


def refusal(check, *args):
    with pytest.raises(Invalid) as caught:
        check(*args)
    return caught.value


def test_ranks_add_up_by_module_and_the_config_of_a_sum_says_them():
    one = ranks_of(CONFIG | {"r": 4, "target_modules": ["q_proj", "up_proj"]}, BASE)
    other = ranks_of(CONFIG | {"r": 2, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 5}}, BASE)
    total = stacked([one, other])
    assert total == {Q: 6, UP: 4, V: 5}
    config = config_of(total, BASE, "tiny")
    assert ranks_of(config, BASE) == total
    assert {config["rank_pattern"].get(name, config["r"]) for name in total} == {6, 4, 5}
    assert not config["use_rslora"]


def test_a_sum_above_the_limit_names_the_module_and_the_rank_that_would_fit():
    check_stack([{Q: 8}, {Q: 4}], BASE, SMALL)
    check_stack([{Q: 12}, {V: 12}], BASE, SMALL)  # no module has both
    said = refusal(check_stack, [{Q: 8}, {Q: 5, UP: 2}], BASE, SMALL)
    assert said.code == "compose_rank_too_large"
    assert f"the ranks 8 + 5 come to 13 in {Q}, above the limit of 12" in said.detail
    assert "rank 12 or less by the method svd (`--method svd --rank 12`)" in said.detail
    few_bytes = AdapterLimits(max_bytes=100)
    assert refusal(check_stack, [{Q: 1}, {Q: 1}], BASE, few_bytes).code == "adapter_too_large"


@pytest.mark.parametrize(
    ("below", "settings", "said"),
    [
        ({Q: 8}, {"rank": 5, "target_modules": ("q_proj",)}, "train with rank 4 or less"),
        ({Q: 8}, {"rank": 4, "target_modules": ("q_proj",), "method": "pissa"}, "train with rank 2 or less"),
        ({Q: 12}, {"rank": 1, "target_modules": ("q_proj",)}, "train other `target_modules`, or name an adapter of a"),
    ],
)
def test_what_is_trained_over_an_adapter_has_the_rank_that_is_left(below, settings, said):
    refused = refusal(check_over, below, LoraSettings(**settings), BASE, SMALL)
    assert refused.code == "compose_rank_too_large"
    assert said in refused.detail


def test_what_is_trained_beside_an_adapters_modules_has_all_of_the_limit():
    check_over({Q: 12}, LoraSettings(rank=12, target_modules=("v_proj",)), BASE, SMALL)


def test_merged_adapters_have_the_rank_of_the_merge():
    check_merged([{Q: 12}, {Q: 12}], 12, BASE, SMALL)
    assert refusal(check_merged, [{Q: 2}, {Q: 2}], 13, BASE, SMALL).code == "compose_rank_too_large"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"use_dora": True}, "is DoRA"),
        ({"modules_to_save": ["lm_head"]}, "brings whole layers of its own (modules_to_save)"),
        ({"task_type": "SEQ_CLS"}, "has a head of its own"),
    ],
)
def test_what_is_more_than_a_sum_is_refused_by_name(more, said):
    check_composable(CONFIG | {"modules_to_save": None, "use_dora": False}, "law.texts@1")
    refused = refusal(check_composable, CONFIG | more, "law.texts@1")
    assert refused.code == "adapter_not_composable"
    assert f"adapter law.texts@1 {said}" in refused.detail
