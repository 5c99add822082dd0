"""Files as people have them are read as the index beside them says, or refused with what to do."""

import pytest

from tests.support.formats import FOLDER, cases, csv_stream, differences, read_stream

MIB = 1 << 20


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["file"])
def test_a_file_is_read_as_its_index_says(case, piece_bytes):
    assert differences(case, piece_bytes) == []


def test_the_index_names_every_file_once():
    named = [case["file"] for case in cases()]
    assert sorted(named) == sorted(file.name for file in FOLDER.iterdir() if file.name != "index.jsonl")
    assert len(named) >= 40


@pytest.mark.parametrize("mib", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_table_is_read_in_the_memory_of_a_piece(mib):
    count, peak, _ = read_stream(csv_stream(mib * MIB))
    assert count > mib * MIB / 5000
    assert peak < 4 * MIB
