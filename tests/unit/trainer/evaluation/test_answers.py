import pytest

from services.trainer.evaluation.answers import Judged, exact_matches, lines, task_kinds
from services.trainer.evaluation.bootstrap import estimate
from shared.errors import Invalid


def test_a_task_of_few_answers_is_classification():
    outputs = {"fin.sa": ["Positive", "negative "] * 5, "med.tg": [f"text {n}" for n in range(10)]}

    assert task_kinds(outputs) == {"fin.sa": "classification", "med.tg": "generation"}


def test_the_caller_knows_better():
    outputs = {"fin.cm": [f"text {n}" for n in range(10)], "fin.sa": ["yes"] * 10}

    assert task_kinds(outputs, classification=["fin.cm"], generation=["fin.sa"]) == {
        "fin.cm": "classification",
        "fin.sa": "generation",
    }


@pytest.mark.parametrize(("classification", "generation"), [(["law.ie"], []), (["fin.sa"], ["fin.sa"])])
def test_a_kind_told_of_no_rows_or_told_twice_is_refused(classification, generation):
    with pytest.raises(Invalid, match=f"{classification[0]} as one kind"):
        task_kinds({"fin.sa": ["yes"]}, classification, generation)


def test_an_exact_match_ignores_case_and_blanks_and_nothing_else():
    assert exact_matches([" Change  PIN\n", "transfers", ""], ["change pin", "transfer", "x"]) == [1, 0, 0]


def test_each_line_has_a_value_for_each_row_of_each_task():
    rows = [Judged("a.a", "a.a", 1, 1), Judged("a.a", "b.b", 1, 0), Judged("b.b", "none.none", 0.5, 0.25)]

    assert lines(rows) == {
        "selector": {"a.a": [1, 0], "b.b": [0]},
        "oracle": {"a.a": [1, 1], "b.b": [0.5]},
        "routed": {"a.a": [1, 0], "b.b": [0.25]},
    }


def test_the_interval_of_a_mean_covers_it_narrows_with_rows_and_is_the_same_each_time():
    few, many = [[1, 0, 1, 1] * 5], [[1, 0, 1, 1] * 500]

    assert estimate(few) == estimate(few)
    assert estimate(few).low < estimate(few).value == 0.75 < estimate(few).high
    # The normal approximation: 0.75 ± 1.96 * sqrt(0.75 * 0.25 / 2000).
    assert estimate(many)[1:] == pytest.approx((0.731, 0.769), abs=0.004)


def test_tasks_weigh_the_same_in_a_mean_however_many_rows_they_have():
    assert estimate([[1.0] * 90, [0.0] * 10]) == (0.5, 0.5, 0.5)
    assert estimate([[], []]) == (0, 0, 0)
