"""The short form of every row: the same code as `make chaos`, with small counts."""

import pytest

from tests.chaos.promises import PROMISES

OWN, MODEL = {12, 16}, {6, 11}
"""Rows with a system of their own, and those on the model, who share another one than the rest."""
ORDER = sorted(PROMISES, key=lambda number: (number in OWN, number in MODEL, number))


@pytest.mark.timeout(600)  # rows bound themselves, for machines with nothing else to do
@pytest.mark.parametrize("number", ORDER, ids=lambda number: f"{number}: {PROMISES[number].sentence}")
def test_the_system_keeps_its_promise(broken, number):
    assert broken(number) == []
