"""What pages show of a decision."""

from services.api.console.deciding import BARS_AT_ONCE, selection_view
from services.api.console.following import as_text
from shared.contracts.generation import LabelProbability, SelectionResult


def probabilities(count):
    return tuple(LabelProbability(label=f"a.l{n}", probability=1 / count) for n in range(count))


def test_an_unexplained_selection_shows_the_best_label_before_its_runners_up():
    runner_up = LabelProbability(label="a.b", probability=0.1)
    selection = SelectionResult(label="a.a", best_label="a.a", probability=0.9, runners_up=(runner_up,), by="light")
    view = selection_view(selection)
    assert [(bar.label, bar.probability, bar.is_chosen) for bar in view["bars"]] == [
        ("a.a", 0.9, True),
        ("a.b", 0.1, False),
    ]
    assert (view["is_whole"], view["who"]) == (False, "the light selector alone")


def test_of_many_labels_the_last_are_folded_away():
    view = selection_view(SelectionResult(probabilities=probabilities(60)))
    assert (len(view["bars"]), len(view["folded"])) == (BARS_AT_ONCE, 60 - BARS_AT_ONCE)


def test_background_is_said_in_words_and_an_older_selection_is_no_error():
    none = LabelProbability(label="none.none", probability=1.0)
    assert selection_view(SelectionResult(probabilities=(none,)))["bars"][0].shown == "no label fits"
    assert selection_view(SelectionResult())["bars"] == []


def test_a_piece_of_an_answer_is_one_line_of_text():
    assert as_text(" <b>\n&\r") == " &lt;b&gt;&#10;&amp;&#13;"
