"""What counts as the same answer."""

import pytest
import torch

from tests.support.agreement import TIE, TOKENS_PER_TIE, Agreement

CLEAR = torch.tensor([0.0, 5.0, 1.0])
TIED = torch.tensor([0.0, 5.0, 5.0 - TIE / 2])


def test_equal_answers_have_no_ties():
    agreement = Agreement()
    agreement.check([1, 1], [1, 1], [CLEAR, TIED])
    agreement.settle()
    assert str(agreement) == "2 greedy tokens compared with PEFT alone, 0 ties"


def test_a_tie_is_counted_and_ends_the_comparison():
    agreement = Agreement()
    agreement.check([1, 2, 0], [1, 1, 1], [CLEAR, TIED, CLEAR])
    assert (agreement.tokens, agreement.ties) == (2, 1)


@pytest.mark.parametrize("ours", [[2], [0], []])
def test_another_token_is_no_tie_where_one_is_clearly_the_best(ours):
    with pytest.raises(AssertionError):
        Agreement().check(ours, [1], [CLEAR])


def test_a_token_that_is_none_of_the_tied_is_wrong():
    with pytest.raises(AssertionError):
        Agreement().check([0], [1], [TIED])


def test_more_ties_than_their_share_are_a_fault():
    agreement = Agreement()
    agreement.ties, agreement.tokens = 2, TOKENS_PER_TIE
    agreement.settle()
    agreement.tokens -= 1
    with pytest.raises(AssertionError):
        agreement.settle()
