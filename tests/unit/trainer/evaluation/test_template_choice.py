import math

import pytest

from services.trainer.evaluation.template_choice import TemplateScore, choose, ranked


def score(name, losses, base=2.0):
    """Of answers with one token each."""
    return TemplateScore((name,), [[loss] for loss in losses], [[base]] * len(losses))


def around(mean, spread=0.1):
    return [mean + spread * (1 if at % 2 else -1) for at in range(10)]


def test_a_template_with_less_loss_on_nearly_every_example_is_clear():
    choice = choose([score("a", around(1.0)), score("b", around(0.4)), score("c", around(1.2))])
    assert (choice.verdict, choice.best.names, choice.warning) == ("clear", ("b",), "")
    assert choice.names("b")
    assert choice.allows("b")
    assert not choice.allows("a")


def test_the_base_models_favourite_gives_way_to_a_template_that_gains_much_more():
    favourite, trained = score("chatml", around(1.6), base=2.9), score("mistral", around(2.0), base=9.0)
    assert [one.names for one in ranked([favourite, trained])] == [("mistral",), ("chatml",)]


def test_what_gains_most_gives_way_to_a_template_with_much_less_loss():
    worst_for_the_base, trained = score("plain", around(1.6), base=10.0), score("chatml", around(0.4), base=2.5)
    assert choose([worst_for_the_base, trained]).names("chatml")


def test_the_tokens_that_are_nearly_certain_tell_templates_apart():
    """Two hard rows decide no more than that: the end of an answer is surer where the prompt is the trained one."""
    words = [0.1, 0.2, 0.1, 0.2, 2.5, 0.1, 0.2, 3.0, 0.1, 0.2]
    trained = TemplateScore(("alpaca",), [[word, 0.0006] for word in words], [[4.0, 2.0]] * 10)
    other = TemplateScore(("zephyr",), [[0.9 * word, 0.004] for word in words], [[4.0, 2.0]] * 10)
    choice = choose([other, trained])
    assert (choice.verdict, choice.best.names) == ("clear", ("alpaca",))
    assert trained.loss > other.loss


@pytest.mark.parametrize(
    "second",
    [
        [loss * 0.99 for loss in around(0.4)],  # better everywhere, by a trace
        [0.3, 1.9, 0.3, 0.3, 0.3, 0.8, 0.3, 0.4, 0.3, 0.4],  # by two examples
    ],
)
def test_a_difference_that_may_be_chance_or_is_a_trace_is_a_tie(second):
    choice = choose([score("a", around(0.4)), score("b", second), score("c", around(1.5))])
    assert choice.verdict == "tie"
    assert choice.allows("a")
    assert choice.allows("b")
    assert not choice.allows("c")
    assert "apart: give more of them" in choice.warning


def test_tokens_that_are_certain_under_both_are_equal():
    assert choose([score("a", [1e-9] * 10), score("b", [4e-4] * 10)]).verdict == "tie"


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
        "templates": ["a"], "loss": 0.5, "base_loss": 2.0, "doubt": round(math.log(0.5) - math.log(2.0) / 2, 4),
    }  # fmt: skip
