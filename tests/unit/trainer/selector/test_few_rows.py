from services.trainer.selector.few_rows import FEW, FEW_IN_ALL, MANY, few_rows_warnings, needs_more, with_few
from shared.contracts.labels import BACKGROUND
from shared.contracts.rows import Row

LABELS = ["bank.cards", "bank.loans", BACKGROUND, "travel.trips"]
VALIDATION = {"bank.cards": [Row(input="a")] * FEW, BACKGROUND: [Row(input="b")], "travel.trips": [Row(input="c")] * 3}


def test_labels_with_few_validation_rows_or_none_are_few():
    assert with_few(VALIDATION, LABELS) == ["bank.loans", BACKGROUND, "travel.trips"]


def test_thresholds_need_more_rows_where_those_of_labels_are_few_however_much_background_there_is():
    rows = [Row(input="a")] * FEW_IN_ALL
    assert needs_more({"bank.cards": rows[1:], BACKGROUND: rows})
    assert not needs_more({"bank.cards": rows})


def test_the_warning_says_how_little_an_accuracy_of_few_rows_means():
    none, few = few_rows_warnings(VALIDATION, LABELS, {"travel.trips": 1.0}, {"travel.trips": (0.4385, 1.0)})
    assert none == "bank.loans: no row was left to validate it on; give it more rows"
    assert few.startswith(
        "travel.trips: an accuracy of 1.000 on 3 validation rows stands for anything from 0.44 to 1.00"
    )


def test_many_labels_with_few_rows_are_told_in_one_sentence():
    labels = [f"bank.l{number}" for number in range(MANY + 1)]
    (told,) = few_rows_warnings({labels[0]: [Row(input="a")]}, labels, {}, {})
    assert told.startswith(f"{MANY + 1} labels have fewer than {FEW} validation rows, and {MANY} of them none")
