"""Data sets are checked line by line, and named by their content."""

import json

import pytest

from shared.contracts.rows import Row, check_dataset_name, dataset_id, dump_rows, parse_rows
from shared.errors import Invalid


def refusal(data, **limits):
    with pytest.raises(Invalid) as caught:
        parse_rows(data, **limits)
    return caught.value


def test_rows_keep_their_order_and_blank_lines_do_not_count():
    rows = parse_rows(b'{"input": "a", "label": "x.y"}\n\n{"input": "b", "unknown": 1}\n')
    assert rows == [Row(input="a", label="x.y"), Row(input="b")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"input": "a"', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"input": ""}', "field input"),
        (b'{"input": "  "}', "field input"),
        (b'{"input": 5}', "field input"),
        (b'{"output": "a"}', "field input"),
        (b'{"input": "\xff"}', "not UTF-8 at byte"),
    ],
)
def test_a_wrong_line_is_named_with_the_reason(line, why):
    error = refusal(b'{"input": "good"}\n' + line)
    assert error.code == "dataset_malformed"
    assert error.detail.startswith("line 2: ")
    assert why in error.detail


def test_only_the_first_wrong_lines_are_told():
    assert refusal(b"x\n" * 100).detail.count("line ") == 5


def test_an_empty_file_and_too_many_rows_are_refused():
    assert refusal(b" \n").code == "dataset_empty"
    assert refusal(b'{"input": "a"}\n' * 3, max_rows=2).code == "dataset_too_large"


def test_the_same_rows_have_the_same_id_whatever_their_spelling():
    one = parse_rows(b'{"input":"\\u00e9","output":"b"}')
    other = parse_rows(json.dumps({"output": "b", "input": " é "}, ensure_ascii=False).encode())
    assert dataset_id(dump_rows(one)) == dataset_id(dump_rows(other))
    assert parse_rows(dump_rows(one)) == one


@pytest.mark.parametrize("name", ["", "../x", "A", "x" * 65, ".x", "a/b", "rows\n"])
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(Invalid):
        check_dataset_name(name)
    assert check_dataset_name("bank.cards-2") == "bank.cards-2"
