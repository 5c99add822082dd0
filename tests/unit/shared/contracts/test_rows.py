"""Rows in their canonical form, and the ids and names of data sets."""

import pytest

from shared.contracts.rows import Row, check_dataset_name, dataset_id, dump_row, dump_rows, parse_rows
from shared.errors import Invalid

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello", "weight": 0},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Bye"},
]
STORED = b"""\
{"input": "a\xe2\x80\xa8b", "instruction": "Say it.", "label": "x.y", "output": "c"}
{"input": "d"}
"""
"""A data set as it was stored before rows had turns; U+2028 ends no line."""


def test_rows_that_were_stored_before_have_the_same_bytes_and_the_same_id():
    rows = parse_rows(STORED)
    assert rows == [Row(input="a\u2028b", instruction="Say it.", output="c", label="x.y"), Row(input="d")]
    assert dump_rows(rows) == STORED
    assert dataset_id(STORED) == "ds_3c37043709e63322fdd6ed77"


def test_a_conversation_says_what_its_instruction_its_question_and_its_answer_are():
    row = Row.model_validate({"messages": TURNS, "label": "x.y"})
    assert (row.instruction, row.input, row.output, row.label) == ("Be brief.", "And now?", "Bye", "x.y")
    assert row.question == "Be brief.\nHi\nHello\nAnd now?"
    assert row.text == f"{row.question}\nBye"


def test_a_conversation_that_ends_with_the_user_has_no_output():
    row = Row.model_validate({"messages": TURNS[:4]})
    assert (row.input, row.output) == ("And now?", "")
    assert row.question == row.text


def test_a_conversation_is_stored_as_its_turns_alone_and_read_back():
    row = Row.model_validate({"messages": TURNS})
    line = dump_row(row)
    assert b'"input"' not in line
    assert line.count(b'"weight"') == 1
    assert parse_rows(line) == [row]


@pytest.mark.parametrize("name", ["", "../x", "A", "x" * 65, ".x", "a/b", "rows\n"])
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(Invalid):
        check_dataset_name(name)
    assert check_dataset_name("bank.cards-2") == "bank.cards-2"
