import pytest

from services.trainer.data.report import (
    LabelData,
    Overlap,
    data_report,
    is_blank,
    only_output,
    overlaps,
    several_answers_warning,
)


def of(texts, outputs=(), available=None, chosen=None):
    available = len(set(texts)) if available is None else available
    return LabelData(texts, list(outputs), available, available if chosen is None else chosen)


def test_texts_under_two_labels_are_counted_by_pair_case_and_white_space_aside():
    texts = {"med.ie": ["One  thing", "two", "own"], "med.qa": ["one thing", "TWO", "two"], "med.tg": ["two", "\u200b"]}

    assert overlaps(texts | {"fin.sa": ["\u200b"]}) == [
        Overlap(("med.ie", "med.qa"), 2, "one thing"),
        Overlap(("med.ie", "med.tg"), 1, "two"),
        Overlap(("med.qa", "med.tg"), 1, "two"),
    ]


def test_a_new_label_is_compared_with_those_that_the_selector_has():
    report = data_report({"a.new": of(["x", "y"])}, {"a.old": ["X"], "a.other": ["z"]}, 2)

    assert report["data"]["overlaps"] == [{"labels": ("a.new", "a.old"), "texts": 1, "example": "x"}]
    assert report["warnings"] == ["1 text stands under both a.new and a.old; no selector can tell them apart"]


def test_the_counts_say_what_was_there_and_what_was_chosen():
    report = data_report({"fin.red": of(["a"] * 5 + ["b"], available=2)}, {}, 2)

    assert report["data"]["labels"] == {"fin.red": {"rows": 6, "available": 2, "chosen": 2}}
    assert report["warnings"] == []


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (of(["a", "b"]), "fin.ha: all 2 different inputs are taken, fewer than the 3 asked for"),
        (of("abcd", chosen=2), "fin.ha: 2 different inputs are nearest to 3 centroids; the label has no more"),
        (of("abcd", ["Yes"] * 4), "fin.ha: all 4 rows have the answer 'Yes'; this task cannot be learnt"),
        (of([*"abcd", " ", "\ufeff"], available=4), "fin.ha: 2 empty inputs are left out"),
    ],
)
def test_what_is_wrong_with_a_label_is_a_sentence_that_names_it(data, warning):
    assert data_report({"fin.ha": data}, {}, 3)["warnings"][0] == warning


def test_rows_without_an_answer_or_with_several_are_no_task_of_one_answer():
    assert [only_output(outputs) for outputs in ([], ["Yes"], ["", ""], ["Yes", ""], ["Yes", "No"])] == [""] * 5


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u200d", "\ufeff", "\x00"])
def test_a_text_of_which_nothing_can_be_seen_is_empty(text):
    assert is_blank(text)
    assert not is_blank(f"{text}.{text}")


def test_a_text_with_different_answers_is_named_with_their_number():
    rows = [("One  text", str(number)) for number in range(5)] + [("other", "x"), ("OTHER", "y"), ("clear", "z")] * 2

    assert several_answers_warning("bank.cards", rows) == (
        "bank.cards: 2 texts have several different answers, 'one text' 5 of them; "
        "an adapter learns one of them by chance"
    )
    assert several_answers_warning("bank.cards", rows[:2]).startswith("bank.cards: 1 text has several")
    assert not several_answers_warning("bank.cards", [("a", "x"), ("b", "y"), ("a", "x")])
