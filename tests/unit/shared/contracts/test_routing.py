import pytest

from shared.contracts.routing import Routed, calibration, calibration_error, fates, intervals, measure

ROWS = [
    Routed("fin.sa", "fin.sa", 0.9),
    Routed("fin.sa", "fin.ha", 0.6),
    Routed("fin.ha", "fin.ha", 0.8),
    Routed("fin.ha", "none.none", 0.3),
    Routed("none.none", "none.none", 0.7),
]


def test_a_row_is_right_where_it_belongs_and_background_belongs_nowhere():
    metrics = measure(ROWS)

    assert (metrics.accuracy, metrics.n, metrics.rejected) == (0.6, 5, 2)
    assert (metrics.domain_accuracy, metrics.task_accuracy) == (0.8, 0.6)
    assert metrics.per_label == {"fin.sa": 0.5, "fin.ha": 0.5, "none.none": 1.0}


def test_the_confusion_counts_gold_against_prediction():
    assert measure(ROWS).confusion == {
        "fin.ha": {"fin.ha": 1, "none.none": 1},
        "fin.sa": {"fin.ha": 1, "fin.sa": 1},
        "none.none": {"none.none": 1},
    }


def test_no_rows_measure_as_zero():
    assert measure([]) == (0.0, 0.0, 0.0, 0, {}, {}, 0, 0.0)


def test_a_label_is_right_by_halves():
    metrics = measure([Routed("fin.ie", "med.ie", 0.9), Routed("fin.ie", "fin.sa", 0.9)])

    assert (metrics.accuracy, metrics.domain_accuracy, metrics.task_accuracy) == (0, 0.5, 0.5)


def test_a_selector_as_sure_as_it_is_right_has_no_calibration_error():
    rows = [Routed("a.a", "a.a", 0.75)] * 3 + [Routed("a.a", "b.b", 0.75)]

    assert calibration_error(rows) == pytest.approx(0)


def test_the_calibration_error_is_the_gap_weighted_by_rows():
    rows = [Routed("a.a", "a.a", 1.0)] * 3 + [Routed("a.a", "b.b", 0.5)]

    assert calibration_error(rows) == pytest.approx(0.125)  # one row of four is 0.5 too sure


def test_the_bins_hold_every_row_with_how_sure_and_how_right_it_was():
    rows = [Routed("a.a", "a.a", 1.0), Routed("a.a", "b.b", 0.9), Routed("a.a", "a.a", 0.1)]

    assert calibration(rows, bins=2) == [(1, 0.1, 1.0), (2, pytest.approx(0.95), 0.5)]


def test_the_fates_of_a_deleted_label_are_shares_of_its_texts():
    rows = [Routed("med.tg", to, 0.5) for to in ("none.none", "none.none", "med.ie", "none.none")]
    told = fates([*rows, Routed("med.qa", "med.ie", 0.9)])

    assert told["med.tg"] == (4, 0.75, {"med.ie": 0.25})
    assert told["med.qa"] == (1, 0.0, {"med.ie": 1.0})


def test_accuracies_come_with_intervals():
    rows = [Routed("a.x", "a.x", 0.9)] * 30 + [Routed("a.x", "a.y", 0.9)] * 10 + [Routed("b.y", "b.y", 0.9)] * 10
    found = intervals(rows)

    low, high = found["accuracy"]
    assert 0.6 < low < 0.8 < high < 1
    assert found["domain_accuracy"] == (pytest.approx(0.929, abs=0.001), 1)
    assert found["task_accuracy"] == found["accuracy"]
    assert found["per_label"]["b.y"] == (pytest.approx(0.722, abs=0.001), 1)
