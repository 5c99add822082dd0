"""Data sets are checked line by line, and named by their content."""

import hashlib
import json
import tracemalloc

import pytest

from shared.contracts.rows import MAX_LINE_BYTES, Row, RowParser, check_dataset_name, dataset_id, dump_rows, parse_rows
from shared.errors import Invalid


def refusal(data, **limits):
    with pytest.raises(Invalid) as caught:
        parse_rows(data, **limits)
    return caught.value


def fed(parser, data, size):
    """The rows of data that comes in pieces of this size."""
    return [row for at in range(0, len(data), size) for row in parser.feed(data[at : at + size])] + [*parser.end()]


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
        (b'{"input": "a", "input": "b"}', "the key 'input' stands twice"),
        (b'{"input": "a", "more": {"x": 1, "y": 2, "x": 1}}', "the key 'x' stands twice"),
        (b'{"input": "a", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"input": "a", "more": "' + b"x" * MAX_LINE_BYTES + b'"}', "longer than"),
        (b'{"input": "", "instruction": "Name a fish.", "output": "eel"}', "write it as the input"),
    ],
)
def test_a_wrong_line_is_named_with_the_reason(line, why):
    error = refusal(b'{"input": "good"}\n' + line)
    assert error.code == "dataset_malformed"
    assert error.detail.startswith("line 2: ")
    assert why in error.detail


def test_a_byte_order_mark_is_passed_over():
    assert parse_rows(b'\xef\xbb\xbf{"input": "a"}') == [Row(input="a")]


@pytest.mark.parametrize(
    "data", [b'[{"input": "a"}]', b'\xef\xbb\xbf\n[\n{"input": "a"}\n]', b"[" + b"x" * MAX_LINE_BYTES]
)
def test_an_array_is_told_to_be_lines(data):
    error = refusal(data)
    assert error.code == "dataset_malformed"
    assert "JSON array; write each of its objects on a line of its own" in error.detail


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_rows_are_the_same_in_whatever_pieces_they_come(size, end):
    data = end.join([b'{"input": "a"}', b"", '{"input": "é\u2028\u0085x"}'.encode(), b'{"input": ""}'])
    parser = RowParser()
    with pytest.raises(Invalid, match="line 4: field input"):
        fed(parser, data, size)
    assert parser.sha256.digest() == hashlib.sha256(data).digest()
    assert fed(RowParser(), data.rpartition(end)[0], size) == [Row(input="a"), Row(input="é\u2028\u0085x")]


def test_what_decides_a_refusal_has_the_same_digest_in_whatever_pieces_it_comes():
    def digest(data, size):
        parser = RowParser()
        with pytest.raises(Invalid):
            fed(parser, data, size)
        return parser.sha256.digest()

    for data in (b"x\n" * 50_000, b"y" * (MAX_LINE_BYTES + 500_000)):
        assert len({digest(data, size) for size in (1 << 16, 100_000, len(data))}) == 1


def test_reading_takes_the_memory_of_a_piece_however_many_rows_there_are():
    parser, piece = RowParser(), b'{"input":"a"}\n' * 1000
    tracemalloc.start()
    try:
        count = sum(1 for _ in range(50) for _ in parser.feed(piece))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (count, parser.row_count) == (50_000, 50_000)
    assert peak < 1 << 20  # the rows themselves would take more than 20 MiB


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
