"""What a vLLM server takes of a card."""

import pytest

from services.cli.gpu.memory import GIB, BaseSize, cards_for, fit, host_gib, rank_for, token_bytes
from tests.support.gpu_plans import base, manifest


def test_a_slot_is_a_and_b_of_every_layer_and_of_embedding_and_head_at_the_servers_rank():
    layer = 2 * (3584 + 3584) + 2 * (512 + 3584) + 3 * (18944 + 3584)
    assert base().slot(16) == 2 * 16 * (28 * layer + 2 * (152064 + 3584))


def test_a_token_of_the_cache_is_what_k_and_v_put_out():
    assert token_bytes(base_shapes()) == 28 * 2 * 512 * 2


def base_shapes():
    return manifest()["shapes"]


@pytest.mark.parametrize(("fused", "out"), [("qkv_proj", "o_proj"), ("query_key_value", "dense")])
def test_a_fused_layer_has_keys_and_values_beside_its_queries(fused, out):
    shapes = {f"layers.0.attn.{fused}": (3072 + 2 * 1024, 3072), f"layers.0.attn.{out}": (3072, 3072)}
    assert token_bytes(shapes) == 2 * 2 * 1024


def test_a_family_with_other_names_has_a_cache_of_unknown_size_and_a_note_that_says_so():
    odd = BaseSize.of({"id": "pin", "shapes": {"layers.0.mixer.in_proj": (64, 32)}, "weight_bytes": 4096})
    assert odd.token_bytes == 0
    assert any("not known for this family" in note for note in odd.notes)
    assert fit(odd, 80 * GIB, adapters=1, rank=8, cards=1, longest=8192).cache_tokens == 0


def test_experts_that_are_no_linear_layers_are_remarked():
    assert any("experts" in note for note in base(weight_bytes=90 * GIB).notes)
    assert base().notes == ()


def test_a_manifest_from_before_sizes_were_noted_is_estimated_from_its_layers():
    old = base(weight_bytes=0)
    assert any("estimated from the layers" in note for note in old.notes)
    assert old.weights == pytest.approx(base().weights, rel=0.02)


@pytest.mark.parametrize(("rank", "server"), [(0, 8), (1, 8), (8, 8), (9, 16), (300, 320), (512, 512), (513, None)])
def test_a_server_is_started_with_the_next_rank_that_it_takes(rank, server):
    assert rank_for(rank) == server


def test_what_the_weights_leave_is_shared_by_slots_and_cache():
    model = base()
    found = fit(model, 72 * GIB, adapters=40, rank=16, cards=1, longest=8192)
    assert found.slots == 40
    assert found.slot_bytes + found.cache_bytes == 72 * GIB - 3 * GIB - model.weights
    assert found.cache_tokens == found.cache_bytes // model.token_bytes


def test_the_cache_keeps_its_half_and_one_whole_sequence():
    model = base()
    small = fit(model, 20 * GIB, adapters=1000, rank=64, cards=1, longest=8192)
    rest = 17 * GIB - model.weights
    assert small.cache_bytes >= rest // 2
    assert fit(model, 18 * GIB, adapters=1, rank=8, cards=1, longest=32768) is None
    assert fit(model, 18 * GIB, adapters=1, rank=8, cards=1, longest=4096).slots == 1


def test_several_cards_divide_weights_and_cache_and_each_has_all_slots():
    model = base()
    one, two = (fit(model, 72 * GIB, adapters=8, rank=16, cards=count, longest=8192) for count in (1, 2))
    assert one.slot_bytes == two.slot_bytes
    assert two.cache_bytes - one.cache_bytes == model.weights - model.weights // 2
    assert two.cache_tokens > 2 * one.cache_tokens


def test_a_model_is_spread_over_as_many_cards_as_it_needs():
    assert cards_for(base(), 80 * GIB, rank=16, longest=8192) == 1
    assert cards_for(base(), 12 * GIB, rank=16, longest=8192) == 2
    assert cards_for(base(weight_bytes=140 * GIB), 80 * GIB, rank=16, longest=8192) == 4


@pytest.mark.parametrize("process", ["server", "worker", "selector", "trainer"])
def test_a_machines_memory_grows_with_the_model(process):
    assert host_gib(process, 0) < host_gib(process, 14 * GIB) < host_gib(process, 140 * GIB)
    assert host_gib(process, 14 * GIB) >= 14
