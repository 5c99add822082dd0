"""What `signalbox route init` says of the accuracy it has measured."""

import pytest

from services.cli.commands.route import accuracy_of
from services.trainer.evaluation.intervals import share_interval


@pytest.mark.parametrize(
    ("answers", "accuracy", "says"),
    [
        ([True] * 8, 1.0, "1.000 (in truth 0.68 to 1.00)"),
        ([False] * 2, 0.0, "0.000 (in truth 0.00 to 0.66)"),
        ([], 0.0, "not known: no example was left to measure it"),
    ],
)
def test_without_a_row_no_accuracy_is_claimed(answers, accuracy, says):
    assert accuracy_of({"accuracy": accuracy, "accuracy_interval": list(share_interval(answers))}) == says
