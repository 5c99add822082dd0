"""What a training takes of a card, by the formula of its module."""

import pytest

from shared.contracts.training_memory import Batch, Memory, adapted_modules, hidden_size, training_memory
from shared.contracts.training_settings import LoraSettings

HIDDEN, WIDE, LAYERS, VOCABULARY = 64, 160, 3, 1000
SHAPES = {
    f"model.layers.{layer}.{name}": shape
    for layer in range(LAYERS)
    for name, shape in {
        "self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64), "mlp.gate_proj": (160, 64), "mlp.up_proj": (160, 64), "mlp.down_proj": (64, 160),
    }.items()
}  # fmt: skip
LAYER = sum(out * into for out, into in SHAPES.values()) // LAYERS
BATCH = Batch(tokens=100, answers=8)
FLOAT32 = LoraSettings(precision="float32", rank=2, dropout=0.0)
BFLOAT16 = FLOAT32.model_copy(update={"precision": "bfloat16"})


def memory(settings=BFLOAT16, batch=BATCH, **more):
    return training_memory(SHAPES, VOCABULARY, settings, batch, **more)


def test_weights_take_the_bytes_of_their_precision_and_half_a_byte_in_four_bits():
    outer = VOCABULARY * HIDDEN
    assert memory(FLOAT32).weights == 4 * (LAYERS * LAYER + outer)
    assert memory().weights == 2 * (LAYERS * LAYER + outer)
    quantised = memory(BFLOAT16.model_copy(update={"method": "qlora"})).weights
    assert quantised == pytest.approx(LAYERS * LAYER * 4.127 / 8 + 2 * outer, abs=1)


def test_what_learns_takes_its_weight_gradient_and_two_states_in_float32_whatever_the_precision():
    numbers = 2 * LAYERS * ((64 + 64) + (32 + 64) + (32 + 64) + (64 + 64))
    assert memory(FLOAT32).adapter == memory().adapter == 16 * numbers
    assert memory(experts=5).adapter == 5 * 16 * numbers
    assert memory(head_rows=7).adapter == 16 * (numbers + 7 * HIDDEN)


def test_activations_grow_with_tokens_and_with_the_layers_that_learn():
    one = memory()
    assert memory(batch=Batch(200, 8)).activations == 2 * one.activations
    assert 3 * memory(BFLOAT16.model_copy(update={"top_layers": 1})).activations == one.activations
    assert memory(BFLOAT16.model_copy(update={"dropout": 0.1})).activations > one.activations
    assert memory(FLOAT32).activations > one.activations


def test_checkpointing_keeps_the_hidden_state_of_each_layer_and_one_layer_in_full():
    one = memory()
    assert one.activations_checkpointed == one.activations // LAYERS + 2 * HIDDEN * LAYERS * BATCH.tokens
    assert one.total - one.total_checkpointed == one.activations - one.activations_checkpointed


def test_logits_are_those_of_answers_and_a_heads_are_not_counted():
    assert memory().logits == 16 * 8 * VOCABULARY
    assert memory(head_rows=3).logits == 0


def test_it_fits_where_it_leaves_a_card_some_room():
    found = Memory(weights=80, adapter=3, activations=1, activations_checkpointed=0, logits=1)
    assert (found.total, found.fits(100), found.fits(99)) == (85, True, False)


def test_adapted_are_the_named_modules_of_the_layers_that_learn():
    top = BFLOAT16.model_copy(update={"top_layers": 1, "target_modules": ("q_proj",)})
    assert set(adapted_modules(SHAPES, top)) == {"model.layers.2.self_attn.q_proj"}
    every = BFLOAT16.model_copy(update={"target_modules": "all-linear"})
    assert set(adapted_modules(SHAPES | {"lm_head": (VOCABULARY, HIDDEN)}, every)) == set(SHAPES)
    assert hidden_size(SHAPES) == HIDDEN


def test_experts_hold_weights_and_belong_to_their_layer():
    experts = {f"model.layers.1.mlp.experts.{number}.up_proj": (16, 64) for number in range(4)}
    found = training_memory(SHAPES | experts, VOCABULARY, BFLOAT16, BATCH)
    assert found.weights == memory().weights + 4 * 16 * 64 * 2
    assert found.activations == memory().activations
