"""A composition beside its parts: what it has to reach, by which measure."""

import pytest

from services.trainer.evaluation.arms import Arm, judge, measures_of


def arms(composition, *parts, measure="exact_match"):
    def arm(name, role, value):
        right = round(100 * value)
        return Arm(name, role, {measure: [1.0] * right + [0.0] * (100 - right)})

    named = [arm(f"part{number}", "part", value) for number, value in enumerate(parts)]
    return [arm("base", "base", 1.0), *named, arm("composition", "composition", composition)]


@pytest.mark.parametrize(
    ("composition", "parts", "published"),
    [(0.9, (0.5, 0.8), True), (0.79, (0.8, 0.2), True), (0.78, (0.8, 0.2), False), (0, (0, 0), True)],
)
def test_it_may_lose_a_point_against_its_better_part_and_no_more(composition, parts, published):
    verdict = judge(arms(composition, *parts), "exact_match")
    assert verdict.published is published
    assert ("worse by more than a point" in verdict.why) is not published
    assert f"exact_match {composition:.3f}" in verdict.why


def test_the_better_part_is_named_and_the_base_model_is_none():
    assert "better part part1 has 0.800" in judge(arms(0.5, 0.2, 0.8), "exact_match").why


def test_an_arms_mean_has_its_interval():
    told = arms(0.5, 0.25)[1].as_result()
    assert (told["arm"], told["role"], told["exact_match"]["value"]) == ("part0", "part", 0.25)
    assert 0.1 < told["exact_match"]["low"] < 0.25 < told["exact_match"]["high"] < 0.4


def test_few_different_answers_are_judged_by_exact_match_and_texts_by_rouge_l():
    assert measures_of(["yes", "no"] * 10).deciding == "exact_match"
    assert measures_of([f"text {number}" for number in range(20)]).deciding == "rouge_l"
    assert set(measures_of(["a", "b"]).scorers) == {"exact_match", "rouge_l"}
