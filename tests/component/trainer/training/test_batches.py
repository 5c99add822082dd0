"""Batches: their plan, their layout, and that what rounds their width changes nothing that is learnt."""

import pytest

from services.trainer.training.batches import IGNORED, collate, pack, plan_batches
from services.trainer.training.sequences import Example
from shared.model.base import load_model
from shared.model.hardware import CARD_WIDTH, width_step
from tests.support.training_steps import EXAMPLES, assert_same_step, learner, step_of


def test_the_plan_shows_every_row_once_an_epoch():
    plan = plan_batches([1] * 10, batch_size=4, epochs=3, seed=0)

    assert [len(plan), max(map(len, plan))] == [9, 4]
    for epoch in range(3):
        assert sorted(row for batch in plan[epoch * 3 : epoch * 3 + 3] for row in batch) == list(range(10))


def test_the_plan_puts_rows_of_like_length_together():
    lengths = [10, 100] * 32

    assert all(len({lengths[row] for row in batch}) == 1 for batch in plan_batches(lengths, 8, 2, seed=0))


def test_the_plan_depends_on_the_seed_alone():
    lengths = list(range(50))

    assert plan_batches(lengths, 4, 2, seed=1) == plan_batches(lengths, 4, 2, seed=1)
    assert plan_batches(lengths, 4, 2, seed=1) != plan_batches(lengths, 4, 2, seed=2)
    assert sorted(plan_batches(lengths, 4, 1, seed=1)) == sorted(plan_batches(lengths, 4, 2, seed=1)[:13])


def test_a_batch_is_padded_on_the_left_and_labels_line_up_with_the_last_columns():
    batch = collate([Example([3, 4, 5], [6, 2]), Example([7], [8, 9, 2])])

    assert batch["input_ids"].tolist() == [[3, 4, 5, 6], [0, 7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 1, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 2], [8, 9, 2]]


def test_packed_rows_lie_end_to_end_and_each_answer_is_predicted_from_its_own_places():
    batch = pack([Example([3, 4, 5], [6, 2]), Example([7], [8, 9, 2])])

    assert batch["input_ids"].tolist() == [[3, 4, 5, 6, 7, 8, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 2], [8, 9, 2]]
    assert batch["row_lengths"] == [4, 3]
    assert batch["row_ends"].tolist() == [0, 4, 7]
    places = batch["logits_to_keep"].reshape(2, 3)
    assert places[0, 1:].tolist() == [2, 3]
    assert places[1].tolist() == [4, 5, 6]


def test_widths_are_rounded_on_cards_alone():
    assert (width_step("cpu"), width_step("cuda")) == (1, CARD_WIDTH)


@pytest.mark.parametrize(("lay_out", "width"), [(collate, 64), (pack, 128)])
def test_a_rounded_width_changes_neither_loss_nor_gradients(tiny_folder, lay_out, width):
    model = learner(load_model(tiny_folder, "float32", device="cpu"), packing=lay_out is pack)
    rounded = lay_out(EXAMPLES, CARD_WIDTH)
    assert rounded["input_ids"].shape[1] == width > lay_out(EXAMPLES)["input_ids"].shape[1]
    assert_same_step(step_of(model, rounded), step_of(model, lay_out(EXAMPLES)))
