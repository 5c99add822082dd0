import pytest

from services.trainer.domain.calibration import choose_threshold

IN_DOMAIN = [0.5] + [0.9] * 99


def test_two_in_a_hundred_good_rows_may_be_lost_to_reject_more_background():
    threshold = choose_threshold(IN_DOMAIN, [0.7, 0.8, 0.95], max_false_reject=0.02)

    assert threshold.value == pytest.approx(0.85)
    assert threshold.false_reject == pytest.approx(0.01)
    assert threshold.background_reject == pytest.approx(2 / 3)


def test_no_good_row_is_lost_where_none_may_be():
    threshold = choose_threshold(IN_DOMAIN, [0.3, 0.7], max_false_reject=0)

    assert threshold.value == pytest.approx(0.4)
    assert (threshold.false_reject, threshold.background_reject) == (0, 0.5)


def test_without_background_the_line_stands_where_the_allowed_rows_fall():
    assert choose_threshold(IN_DOMAIN, []) == (0.9, 0.01, 0.0)


def test_without_any_row_nothing_is_rejected():
    assert choose_threshold([], []) == (0.0, 0.0, 0.0)
