import math

import pytest

from services.trainer.evaluation.template_choice import TemplateScore, choose, ranked


def score(name, losses, base=2.0):
    return TemplateScore((name,), losses, [base] * len(losses))


def around(mean, spread=0.1):
    return [mean + spread * (1 if at % 2 else -1) for at in range(10)]


def test_a_template_that_gains_more_on_nearly_every_example_is_clear():
    choice = choose([score("a", around(1.0)), score("b", around(0.4)), score("c", around(1.2))])
    assert (choice.verdict, choice.best.names, choice.warning) == ("clear", ("b",), "")
    assert choice.names("b")
    assert choice.allows("b")
    assert not choice.allows("a")


def test_the_base_models_favourite_is_in_doubt_where_another_template_gains_much_more():
    favourite, trained = score("chatml", around(1.6), base=2.9), score("mistral", around(3.0), base=9.0)
    choice = choose([favourite, trained])
    assert (choice.verdict, choice.best.names) == ("tie", ("chatml",))
    assert choice.allows("mistral")


def test_a_little_less_loss_and_much_more_gain_is_clear():
    trained, near = score("plain", around(0.13, 0.08), base=9.5), score("zephyr", around(0.17, 0.01), base=4.8)
    assert choose([near, trained]).verdict == "clear"
    assert choose([near, trained]).names("plain")


def test_where_both_are_learnt_a_little_more_gain_is_no_doubt():
    trained, near = score("chatml", around(0.06, 0.01), base=3.0), score("zephyr", around(0.09, 0.01), base=4.8)
    assert [one.names for one in ranked([near, trained])] == [("chatml",), ("zephyr",)]
    assert choose([near, trained]).verdict == "clear"


@pytest.mark.parametrize(
    "second",
    [
        [loss + 0.001 for loss in around(0.4)],  # better everywhere, by a trace
        [0.3, 1.9, 0.3, 0.3, 0.3, 1.9, 0.3, 0.4, 0.3, 0.4],  # better on the mean, by two examples
    ],
)
def test_a_difference_that_may_be_chance_or_is_a_trace_is_a_tie(second):
    choice = choose([score("a", around(0.4)), score("b", second), score("c", around(1.5))])
    assert choice.verdict == "tie"
    assert choice.allows("a")
    assert choice.allows("b")
    assert not choice.allows("c")
    assert "apart: give more of them" in choice.warning


def test_two_examples_are_too_few():
    assert choose([score("a", [0.1, 0.1]), score("b", [1.0, 1.0])]).verdict == "tie"


def test_an_adapter_that_is_no_better_than_the_base_model_is_told_of():
    choice = choose([score("a", around(2.5)), score("b", around(3.0))])
    assert choice.verdict == "no_better_than_base"
    assert (
        "no template is the adapter better than the base model alone (loss 2.500, without it 2.000)" in choice.warning
    )


def test_one_template_alone_is_clear():
    assert choose([score("a", around(0.4))]).verdict == "clear"


def test_the_result_rounds_and_leaves_out_what_was_not_measured():
    assert score("a", [0.5, 0.5]).as_result() == {
        "templates": ["a"], "loss": 0.5, "base_loss": 2.0, "gain": round(math.log(4), 4),
    }  # fmt: skip
