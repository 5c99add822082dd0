"""What a training takes: its work, and the speed of former trainings."""

import math

import pytest

from shared.contracts.training_cost import (
    START_SECONDS,
    Rows,
    Speed,
    check_cost,
    estimate,
    forward_flops,
    in_words,
    together,
    training_flops,
    work_of,
)
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid

SHAPES = {
    "model.layers.0.q_proj": (10, 10),
    "model.layers.1.q_proj": (10, 10),
    "model.layers.2.mlp.up_proj": (20, 10),
    "model.layers.3.mlp.up_proj": (20, 10),
    "lm_head": (1000, 10),
}


def speed(pace="float32", flops=1e6, step=1e6, **more):
    return Speed(pace=pace, step_flops=step, flops_per_second=flops, **more)


def test_a_token_costs_two_operations_a_weight_forward_and_two_more_where_the_backward_pass_goes():
    assert forward_flops(SHAPES) == 2 * 600
    assert training_flops(SHAPES, LoraSettings()) == 2 * forward_flops(SHAPES)
    assert training_flops(SHAPES, LoraSettings(top_layers=1)) == 1.25 * forward_flops(SHAPES)
    assert training_flops(SHAPES, LoraSettings(top_layers=9)) == 2 * forward_flops(SHAPES)
    assert training_flops(SHAPES, LoraSettings(gradient_checkpointing=True)) == 3 * forward_flops(SHAPES)


def test_the_work_is_all_rows_in_all_epochs_and_the_rows_it_is_judged_on():
    settings = LoraSettings(batch_size=8, epochs=5, accumulate=2, max_length=512)
    work = work_of(settings, Rows(20, 35), Rows(4, 35), prompt_bytes=70)
    assert work.steps == math.ceil(3 * 5 / 2)
    assert work.tokens == 5 * 20 * (12 + 30)
    assert work.read_tokens == 4 * (12 + 30)
    assert work_of(settings, Rows(20, 10**6), Rows(0, 0)).tokens == 5 * 20 * 512


def test_rows_are_counted_together():
    assert Rows.of(["ab", "ü€"]) == (2, 3.5)
    assert together([Rows(1, 10), Rows(3, 2)]) == (4, 4)
    assert together([]) == (0, 0)
    assert Rows(3, 2.0).part(1.2) == (2, 2.0)


def test_an_estimate_is_the_work_at_the_speed_of_the_most_similar_training():
    settings, work = LoraSettings(), work_of(LoraSettings(epochs=1), Rows(80, 70), Rows(0, 0))
    flops = work.tokens * training_flops(SHAPES, settings)
    probe, other, own = speed(flops=1e3, is_probe=True), speed("bfloat16", 1e9), speed(flops=1e5)
    far = speed(flops=1e7, step=1e9)
    for known, used in (
        ([probe], probe),
        ([probe, own], own),
        ([probe, other], probe),
        ([other], other),
        ([far, own, other], own),
        ([speed(flops=7), own], own),
    ):
        found = estimate(SHAPES, settings, work, known)
        assert found.seconds == pytest.approx(START_SECONDS + flops / used.flops_per_second, abs=0.1)
        assert found.basis == ("probed" if used.is_probe else "measured")
    assert (found.steps, found.tokens) == (work.steps, work.tokens)


@pytest.mark.parametrize(("slow", "fast"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_what_is_read_is_read_in_the_faster_precision(slow, fast):
    settings = LoraSettings(precision=slow, epochs=1)
    work = work_of(settings, Rows(8, 70), Rows(8000, 70))
    found = estimate(SHAPES, settings, work, [speed(slow, 1e7), speed(fast, 1e8)])
    trained = work.tokens * training_flops(SHAPES, settings) / 1e7
    read = work.read_tokens * forward_flops(SHAPES) / 1e8
    assert found.seconds == pytest.approx(START_SECONDS + trained + read, abs=0.1)


def test_auto_is_estimated_in_the_precision_of_the_trainer_that_was_measured_last():
    work = work_of(LoraSettings(epochs=1), Rows(80, 70), Rows(0, 0))
    flops = work.tokens * training_flops(SHAPES, LoraSettings())
    for auto, per_second in (("float32", 1e5), ("bfloat16", 1e6)):
        known = [speed(flops=1e5), speed("bfloat16", 1e6, auto=auto)]
        found = estimate(SHAPES, LoraSettings(), work, known)
        assert found.seconds == pytest.approx(START_SECONDS + flops / per_second, abs=0.1)


def test_nothing_is_estimated_without_a_speed_or_without_work():
    work = work_of(LoraSettings(), Rows(8, 70), Rows(2, 70))
    assert estimate(SHAPES, LoraSettings(), work, []) is None
    assert estimate(SHAPES, LoraSettings(), work_of(LoraSettings(), Rows(0, 0), Rows(2, 70)), [speed()]) is None


def test_what_costs_more_than_the_limit_is_refused_with_what_to_do_unless_it_is_confirmed():
    work = work_of(LoraSettings(), Rows(648, 150), Rows(9, 150))
    found = estimate(SHAPES, LoraSettings(), work, [speed(flops=1e5)])
    check_cost(found, found.seconds, "adapter.train", confirmed=False)
    check_cost(found, 1, "adapter.train", confirmed=True)
    check_cost(found, 0, "adapter.train", confirmed=False)
    check_cost(None, 1, "adapter.train", confirmed=False)
    with pytest.raises(Invalid, match=r"about 35 min \(405 steps, \d+ tokens\), above the limit of 30 min") as refused:
        check_cost(found.model_copy(update={"seconds": 2100}), 1800, "selector.add", confirmed=False)
    assert refused.value.code == "training_costly"
    assert all(way in refused.value.detail for way in ("confirm_cost", "--confirm-cost", "--kind light", "epochs"))


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.4, "3 s"), (119, "119 s"), (150, "2.5 min"), (3000, "50 min"), (9000, "2.5 h")]
)
def test_a_duration_is_said_as_people_say_it(seconds, words):
    assert in_words(seconds) == words
