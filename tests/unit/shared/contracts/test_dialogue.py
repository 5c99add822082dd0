"""The label of a dialogue's last turn."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.conversation import message
from shared.contracts.dialogue import (
    MOST_TURNS,
    Kept,
    Parts,
    Topics,
    human_turns,
    says_little,
    select_turn,
    turns_read,
    words_in,
)
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading
from shared.contracts.selection import select

LABELS = ("bank.cards", "bank.loans", "travel.trips", "none.none")
READING = RequestReading(mode="dialogue")
CARDS = "my card was swallowed by the machine at the station"
LOANS = "how much interest would a loan over ten years cost me"
TRIPS = "book me a train to the mountains for the weekend please"
VAGUE = "and what about the one which I had asked you for before"
OUTSIDE = "who won the world cup in the year I was born in"
KNOWN = {
    CARDS: (0.97, 0.01, 0.01, 0.01),
    LOANS: (0.01, 0.97, 0.01, 0.01),
    TRIPS: (0.01, 0.01, 0.97, 0.01),
    VAGUE: (0.3, 0.4, 0.2, 0.1),
    OUTSIDE: (0.01, 0.02, 0.02, 0.95),
    "do it": (0.1, 0.1, 0.3, 0.5),
    f"{CARDS}\ndo it": (0.8, 0.1, 0.05, 0.05),
    f"{LOANS}\ndo it": (0.05, 0.8, 0.1, 0.05),
    f"{OUTSIDE}\ndo it": (0.1, 0.1, 0.1, 0.7),
}


class Scores:
    """Scores the texts above, and remembers which it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, text):
        self.asked.append(text)
        return [math.log(p) for p in KNOWN[text]]


def never(text):
    raise AssertionError(f"read in vain: {text}")


def selector(**changes):
    return ReleaseSelector(**({"light": "d", "labels": LABELS, "threshold": 0.5} | changes))


def found(*turns, kept=None, light=None, llm=never, reading=READING, **changes):
    return select_turn(selector(**changes), reading, turns, Parts(light or Scores(), llm), kept)


def user(*texts):
    return [message("user", text) for text in texts]


def test_one_turn_is_selected_bit_for_bit_as_without_a_reading():
    for text in KNOWN:
        assert found(text) == select(selector(), lambda text=text: Scores()(text), never)


def test_a_turn_that_speaks_for_itself_switches_the_label():
    selection = found(CARDS, CARDS, LOANS)
    assert (selection.label, selection.by) == ("bank.loans", "light")


def test_the_label_is_kept_against_a_turn_that_hardly_speaks_for_another():
    assert found(VAGUE).best.label == "bank.loans"
    selection = found(CARDS, VAGUE)
    assert (selection.label, selection.by) == ("bank.cards", "kept")


def test_the_more_turns_spoke_for_a_label_the_more_a_turn_has_to_say_for_another():
    assert found(CARDS, CARDS, VAGUE).best.probability > found(CARDS, VAGUE).best.probability


def test_a_turn_that_says_little_is_read_together_with_the_last_that_said_something():
    light = Scores()
    selection = found(LOANS, CARDS, "do it", light=light)
    assert (selection.label, selection.by) == ("bank.cards", "dialogue")
    assert f"{CARDS}\ndo it" in light.asked
    assert found(CARDS, "do it", "do it").label == "bank.cards"


def test_a_turn_outside_every_label_is_rejected_and_the_next_one_finds_the_label_again():
    assert found(CARDS, OUTSIDE).label == ""
    assert found(CARDS, OUTSIDE, VAGUE).label == "bank.cards"


def test_a_turn_that_refers_to_one_outside_every_label_is_rejected_with_it():
    assert found(OUTSIDE, "do it").label == ""
    assert found(CARDS, OUTSIDE, "do it").label == ""
    assert found(CARDS, "do it", threshold=0.99, none_weight=1.0).label == "bank.cards"


def test_a_kept_label_stands_for_what_was_said_before():
    kept = Kept("travel.trips", 0.99)
    assert found(VAGUE, kept=kept).label == "travel.trips"
    assert (found("do it", kept=kept).label, found("do it", kept=kept).by) == ("travel.trips", "kept")
    assert found(CARDS, kept=kept).label == "bank.cards"
    assert found(LOANS, "do it", kept=kept).by == "dialogue"


def test_a_kept_label_that_the_release_lacks_counts_for_nothing():
    assert found(VAGUE, kept=Kept("bank.gone", 1.0)) == found(VAGUE)
    assert found(VAGUE, kept=Kept("bank.cards", 1.0), reading=None) == found(VAGUE)


def test_the_language_model_of_a_cascade_reads_one_text():
    light, llm = Scores(), Scores()
    cascade = {"llm": llm, "light": light}
    select_turn(selector(llm="m", cascade_threshold=0.9), READING, [CARDS, LOANS, VAGUE], Parts(**cascade))
    assert llm.asked == [VAGUE]
    assert light.asked == [CARDS, LOANS, VAGUE]
    llm.asked.clear()
    select_turn(selector(llm="m", cascade_threshold=0.9), READING, [LOANS, CARDS, "do it"], Parts(**cascade))
    assert llm.asked == [f"{CARDS}\ndo it"]


def test_a_language_model_alone_reads_the_last_two_turns():
    llm = Scores()
    alone = selector(light="", llm="m")
    turns = turns_read(user(TRIPS, CARDS, LOANS), "", alone, READING)
    assert turns == [CARDS, LOANS]
    assert select_turn(alone, READING, turns, Parts(never, llm)).by == "llm"
    assert llm.asked == [CARDS, LOANS]


def test_prototypes_read_dialogues_as_words_do():
    made_of_prototypes = ReleaseSelector(prototypes="p", labels=LABELS, threshold=0.5)
    by = [
        select_turn(made_of_prototypes, READING, turns, Parts(Scores(), never)).by
        for turns in ([CARDS], [CARDS, LOANS], [CARDS, VAGUE], [CARDS, "do it"])
    ]
    assert by == ["prototypes", "prototypes", "kept", "dialogue"]


@pytest.mark.parametrize(
    ("mode", "texts"),
    [
        (None, ["<file>x</file> and again?"]),
        ("last_turn", ["and again?"]),
        ("dialogue", [CARDS, "and again?"]),
    ],
)
def test_each_reading_reads_what_its_name_says(mode, texts):
    messages = [
        message("system", "Be brief."),
        message("user", CARDS),
        message("assistant", LOANS),
        message("user", "<tool_result>ok</tool_result>"),
        message("user", "<file>x</file> and again?"),
    ]
    reading = mode and RequestReading(mode=mode)
    assert turns_read(messages, "Be brief.", selector(), reading) == texts


def test_the_instruction_is_read_before_the_last_turn_where_the_release_says_so():
    of_both = selector(text="instruction+input")
    reading = RequestReading(mode="instruction+input")
    assert turns_read(user(CARDS, LOANS), "Be brief.", of_both, reading) == [f"Be brief.\n{LOANS}"]
    assert turns_read(user(CARDS, LOANS), "", of_both, reading) == [LOANS]


def test_the_last_human_turns_count_and_a_turn_of_a_program_alone_is_read_whole():
    turns = [f"turn {number}" for number in range(20)]
    assert human_turns(user(*turns), READING) == turns[-MOST_TURNS:]
    only = "<tool_result>ok</tool_result>"
    assert human_turns(user(only), READING) == [only]
    assert human_turns(user("<mine>x</mine> go on"), RequestReading(harness_tags=["mine"])) == ["go on"]


def test_a_turn_says_less_the_fewer_words_it_has_and_the_less_sure_its_label_is():
    assert says_little(READING, "yes, do it", 0.4) > 0.5 > says_little(READING, CARDS, 0.4)
    assert says_little(READING, "yes, do it", 0.4) > says_little(READING, "yes, do it", 0.9)
    assert 0 < says_little(READING, "", 0.0) <= 1
    assert 0 <= says_little(READING, "a " * 10_000, 1.0) < 1e-6


def test_words_of_scripts_without_spaces_count_too():
    assert words_in("transfer ten euros") == 3
    assert words_in("我想转账十欧元") == 3.5
    assert words_in("?!") == 0.5


PROBABILITIES = st.lists(st.floats(1e-6, 1), min_size=4, max_size=4).map(lambda all_: [p / sum(all_) for p in all_])
SHARES = st.floats(0.001, 0.999)


@given(st.lists(PROBABILITIES, min_size=1, max_size=5), SHARES, SHARES)
def test_beliefs_and_what_is_found_are_probabilities(turns, stay, off_topic):
    topics = Topics([True, True, True, False], stay)
    belief = topics.anywhere()
    for evidence in turns:
        before = topics.before(belief)
        of_turn = topics.with_evidence(before, evidence, off_topic)
        belief = topics.after(before, of_turn)
        for vector in (before, of_turn, belief):
            assert sum(vector) == pytest.approx(1)
            assert min(vector) >= 0
        assert belief[3] == before[3] == 0


@given(PROBABILITIES, SHARES, SHARES)
def test_a_turn_that_belongs_to_no_label_leaves_the_belief_as_it_was(belief, stay, off_topic):
    topics = Topics([True, True, True, False], stay)
    before = topics.before(belief)
    outside = topics.with_evidence(before, [0.0, 0.0, 0.0, 1.0], off_topic)
    assert topics.after(before, outside) == pytest.approx(before)


def test_a_selector_of_one_label_has_nothing_to_switch_to():
    topics = Topics([True, False], 0.9)
    assert topics.before(topics.at(0, 0.4)) == [1.0, 0.0]
