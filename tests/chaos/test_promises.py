"""The short form of every row: the same code as `make chaos`, with small counts.

`make test` runs the rows whose promise no other suite proves on real processes, and those that take less than two
seconds on the same system; `make test-slow` runs the rest, of which `tests/README.md` names the direct tests.
"""

import pytest

from tests.chaos.promises import PROMISES

OWN, MODEL = {12, 16, 18, 19, 20}, {6, 11}
"""Rows with a system of their own, and those on the model, who share another one than the rest."""
ORDER = sorted(PROMISES, key=lambda number: (number in OWN, number in MODEL, number))
QUICK = {1, 10, 15, 21, 23}
"""Rows of `make test`."""
ROWS = [pytest.param(number, marks=() if number in QUICK else pytest.mark.slow) for number in ORDER]


@pytest.mark.timeout(600)  # rows bound themselves, for machines with nothing else to do
@pytest.mark.parametrize("number", ROWS, ids=lambda number: f"{number}: {PROMISES[number].sentence}")
def test_the_system_keeps_its_promise(broken, number):
    assert broken(number) == []
