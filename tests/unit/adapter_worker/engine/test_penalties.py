"""Penalties as OpenAI defines them."""

import pytest

from services.adapter_worker.engine.penalties import LogitChanges


def after(tokens, **given):
    changes = LogitChanges(**{"presence": 0.0, "frequency": 0.0, "bias": {}, **given})
    for token in tokens:
        changes.note(token)
    return changes.by_token


def test_presence_counts_once_and_frequency_each_time():
    assert after([5, 7, 5, 5], presence=0.5, frequency=0.25) == pytest.approx({5: -0.5 - 3 * 0.25, 7: -0.75})


def test_a_negative_penalty_is_a_reward():
    assert after([5, 5], presence=-1.0, frequency=-0.5) == pytest.approx({5: 2.0})


def test_bias_is_there_from_the_start_and_adds_to_penalties():
    bias = {5: 1.0, 9: -100.0}
    assert after([], bias=bias) == bias
    assert after([5], bias=bias, presence=0.5) == pytest.approx({5: 0.5, 9: -100.0})
    assert bias == {5: 1.0, 9: -100.0}


def test_without_penalties_and_bias_there_is_nothing_to_add():
    assert after([1, 2, 3]) == {}
