import random

import pytest

from services.trainer.evaluation.calibration import (
    NEVER,
    CalibrationTarget,
    CascadeRow,
    choose_cascade_threshold,
    choose_conformal_threshold,
    choose_threshold,
)

IN_DOMAIN = [0.5] + [0.9] * 99


def test_two_in_a_hundred_good_rows_may_be_lost_to_reject_more_background():
    threshold = choose_threshold(IN_DOMAIN, [0.7, 0.8, 0.95], CalibrationTarget(0.02))

    assert threshold.value == pytest.approx(0.85)
    assert threshold.false_reject == pytest.approx(0.01)
    assert threshold.background_reject == pytest.approx(2 / 3)


def test_no_good_row_is_lost_where_none_may_be():
    threshold = choose_threshold(IN_DOMAIN, [0.3, 0.7], CalibrationTarget(0))

    assert threshold.value == pytest.approx(0.4)
    assert (threshold.false_reject, threshold.background_reject) == (0, 0.5)


def test_without_background_the_line_stands_where_the_allowed_rows_fall():
    assert choose_threshold(IN_DOMAIN, [], CalibrationTarget()) == (0.9, 0.01, 0.0)


def test_without_any_row_nothing_is_rejected():
    assert choose_threshold([], [], CalibrationTarget()) == (0.0, 0.0, 0.0)


def test_the_line_is_no_higher_than_the_background_that_is_enough_to_reject():
    background = [0.1, 0.2, 0.3, 0.4, 0.45]
    aims = (
        CalibrationTarget(0.02),
        CalibrationTarget(0.02, 0.8),
        CalibrationTarget(0.02, 0.5),
        CalibrationTarget(0.02, 0.0),
    )
    lines = [choose_threshold([0.48] * 10, background, target) for target in aims]
    assert [line.background_reject for line in lines] == [1.0, 0.8, 0.6, 0.0]
    assert [line.value for line in lines] == pytest.approx([0.465, 0.425, 0.35, 0.0])


def test_no_label_is_taken_that_is_less_probable_than_the_least():
    assert choose_threshold([0.5] * 10, [0.01, 0.4], CalibrationTarget(0.0, 0.5, min_threshold=0.25)).value == 0.25
    assert choose_threshold([0.2] * 10, [0.01, 0.1], CalibrationTarget(0.0, 0.5, min_threshold=0.25)).value == 0.2


def test_wrong_rejections_bound_the_line_before_the_background_does():
    threshold = choose_threshold([0.2] * 50 + [0.9] * 50, [0.1, 0.3, 0.5], CalibrationTarget(0.0, 1.0))
    assert (threshold.false_reject, threshold.background_reject) == (0.0, pytest.approx(1 / 3))


def rows(*of):
    return [CascadeRow(*row) for row in of]


def test_the_light_selector_decides_alone_as_far_down_as_it_costs_nothing():
    confidence = choose_cascade_threshold(
        rows((0.9, True, True), (0.8, False, False), (0.7, True, True), (0.6, False, True)), 0.5
    )
    assert confidence == 0.7


def test_a_row_that_the_light_selector_alone_gets_right_pays_for_one_it_gets_wrong():
    assert choose_cascade_threshold(rows((0.9, True, False), (0.8, False, True), (0.7, True, True)), 0.5) == 0.7


def test_what_is_less_sure_than_the_least_is_left_to_both():
    assert choose_cascade_threshold(rows((0.9, True, True), (0.4, True, True)), 0.5) == 0.9


def test_what_the_light_selector_would_not_take_is_left_to_both():
    assert choose_cascade_threshold(rows((0.9, True, True), (0.8, True, True, True), (0.7, True, True)), 0.5) == 0.9
    assert choose_cascade_threshold(rows((0.9, True, True), (0.9, True, True, True)), 0.5) == NEVER


def test_a_light_selector_that_errs_where_it_is_surest_never_decides_alone():
    assert choose_cascade_threshold(rows((0.9, False, True), (0.8, True, True)), 0.5) == NEVER
    assert choose_cascade_threshold([], 0.5) == NEVER
    assert choose_cascade_threshold(rows((0.9, True, True), (0.9, False, True)), 0.5) == NEVER


@pytest.mark.parametrize(("most", "line"), [(1.0, NEVER), (0.5, 0.8), (0.25, 0.7), (0.2, 0.6), (0.0, 0.6)])
def test_the_language_model_is_asked_no_more_often_than_it_may_be(most, line):
    costly = rows((0.9, False, True), (0.8, True, True), (0.7, True, True), (0.6, False, True))

    assert choose_cascade_threshold(costly, 0.5, max_llm_share=most) == line
    assert sum(row.confidence < line for row in costly) <= most * len(costly)


def test_an_allowance_that_is_not_needed_changes_nothing():
    assert (
        choose_cascade_threshold(rows((0.9, True, True), (0.8, True, True), (0.7, False, True)), 0.5, max_llm_share=0.9)
        == 0.8
    )


@pytest.mark.parametrize(
    ("least", "line"), [(0.0, 0.6), (0.2, 0.7), (0.5, 0.9), (0.75, 0.9), (0.76, NEVER), (1.0, NEVER)]
)
def test_the_language_model_is_asked_at_least_as_often_as_it_shall_be(least, line):
    easy = rows((0.9, True, True), (0.7, True, True), (0.7, True, True), (0.6, True, True))

    assert choose_cascade_threshold(easy, 0.5, least) == line
    assert sum(row.confidence < line for row in easy) >= least * len(easy)


def test_where_equal_rows_let_no_line_keep_both_bounds_the_cost_is_kept():
    alike = rows((0.7, True, True), (0.7, True, True))
    assert choose_cascade_threshold(alike, 0.5, 0.5, 0.5) == 0.7


def test_sets_hold_the_right_label_as_often_as_stated():
    chance = random.Random(0)
    seen, unseen = ([chance.random() for _ in range(2000)] for _ in range(2))
    floor = choose_conformal_threshold(seen, 0.95)
    assert sum(p >= floor for p in unseen) / 2000 == pytest.approx(0.95, abs=0.015)


def test_with_too_few_rows_to_promise_anything_sets_hold_every_label():
    assert choose_conformal_threshold([0.9] * 18, 0.95) == 0.0
    assert choose_conformal_threshold([0.9] * 19, 0.95) == 0.9
