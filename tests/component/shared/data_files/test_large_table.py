"""A table of gigabytes; `unit` has the same with megabytes."""

import pytest

from tests.support.formats import csv_stream, read_stream

MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_table_of_two_gigabytes_is_read_in_the_memory_of_a_piece():
    count, peak, _ = read_stream(csv_stream(2048 * MIB))
    assert count > 400_000
    assert peak < 4 * MIB
