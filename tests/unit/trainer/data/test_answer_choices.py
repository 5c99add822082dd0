"""When an adapter's answers are bound to those of its rows."""

import pytest

from services.trainer.data.answer_choices import MOST_ANSWERS, answer_constraint
from shared.errors import Invalid

FEW = ["yes", "no"] * 5


def test_answers_are_bound_only_where_somebody_asks():
    assert answer_constraint("none", FEW) is None
    assert answer_constraint("answers", FEW).choices == ("no", "yes")


@pytest.mark.parametrize(
    ("answers", "is_bound"),
    [
        (FEW, True),
        (FEW[:-1], False),
        ([str(n) for n in range(MOST_ANSWERS)] * 5, True),
        ([str(n) for n in range(MOST_ANSWERS + 1)] * 5, False),
        (["x" * 1001] * 5, False),
    ],
)
def test_auto_binds_few_answers_that_stand_often(answers, is_bound):
    assert (answer_constraint("auto", answers) is not None) == is_bound


@pytest.mark.parametrize("answers", [[str(n) for n in range(MOST_ANSWERS + 1)], ["x" * 1001]])
def test_answers_that_cannot_be_choices_are_refused_where_they_must_be(answers):
    with pytest.raises(Invalid, match="constrain: answers"):
        answer_constraint("answers", answers)
