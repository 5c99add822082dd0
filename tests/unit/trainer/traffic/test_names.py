import pytest

from services.trainer.traffic.names import UNNAMED, Wording, suggested_name, telling_terms
from shared.contracts.labels import parse_label


def telling(texts, others):
    return telling_terms(texts, Wording.of([*texts, *others]))


OTHERS = [
    "what is the balance of my account",
    "how do i pay the bill",
    "is the flight on time",
    "call my mother please",
]


def test_words_that_others_do_not_have_tell_texts_from_them():
    texts = ["how do i change the oil", "when is the next oil change", "is it time for an oil change"]
    assert telling(texts, OTHERS)[:2] == ["change", "oil"]
    assert not {"the", "do", "how"} & set(telling(texts, [*OTHERS, "do the thing", "how is the day"]))


def test_a_pair_of_words_stands_before_its_words_and_for_them():
    texts = [f"{word} lost luggage {word}" for word in ("my", "the", "a", "that", "some")]
    terms = telling(texts, ["i lost my card", "lost in town", "where is my luggage"] * 3)
    assert terms[0] == "lost luggage"
    assert "luggage" not in terms[1:]
    assert "lost" not in terms[1:]


def test_a_word_of_a_single_text_names_nothing():
    assert telling(["roll the dice", "flip a coin"], OTHERS) == []


def test_texts_that_say_what_others_say_have_no_terms():
    assert telling(OTHERS * 2, OTHERS * 2) == []
    assert telling([], []) == []


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        (["oil change", "engine", "filter"], "oil-change-engine"),
        (["what's up"], "what-s-up"),
        (["über", "käse"], "ueber-kaese"),
        (["天气"], UNNAMED),
        ([], UNNAMED),
        (["o" * 40], "o" * 32),
        (["base"], UNNAMED),
    ],
)
def test_a_name_is_made_of_the_first_terms_and_is_a_task(terms, name):
    found = suggested_name(terms, ())
    assert found == name
    assert parse_label(f"domain.{found}").task == found


def test_a_name_that_is_taken_gets_a_number_within_its_length():
    assert suggested_name(["oil"], {"oil"}) == "oil-2"
    assert suggested_name(["oil"], {"oil", "oil-2"}) == "oil-3"
    assert suggested_name(["o" * 40], {"o" * 32}) == f"{'o' * 30}-2"
