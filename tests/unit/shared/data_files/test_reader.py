"""Files of rows are checked record by record, in whatever pieces they come."""

import gzip
import hashlib
import json
import tracemalloc

import pytest

from shared.contracts.rows import Row, dataset_id, dump_rows
from shared.data_files.objects import MAX_BYTES
from shared.data_files.reader import MAX_WRONG, RowReader, read_rows
from shared.data_files.tables import SEPARATORS
from shared.errors import Invalid

MIB = 1 << 20


def refusal(data, **options):
    with pytest.raises(Invalid) as caught:
        read_rows(data, **options)
    return caught.value


def fed(reader, data, size):
    """The rows of data that comes in pieces of this size."""
    found = [row for at in range(0, len(data), size) for row in reader.feed(data[at : at + size])]
    return [one.row for one in [*found, *reader.end()]]


def test_rows_keep_their_order_and_blank_lines_do_not_count():
    rows = read_rows(b'{"input": "a", "label": "x.y"}\n\n{"input": "b", "unknown": 1}\n')
    assert rows == [Row(input="a", label="x.y"), Row(input="b")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"input": "a"', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{\n  "input": "a"\n}', "jq -c . FILE"),
        (b'{"input": ""}', "field input"),
        (b'{"input": "  "}', "field input"),
        (b'{"input": 5}', "field input"),
        (b'{"output": "a"}', "field input"),
        (b'{"input": "\xff"}', "not UTF-8 at byte"),
        (b'{"input": "a", "input": "b"}', "the key 'input' stands twice"),
        (b'{"input": "a", "more": {"x": 1, "y": 2, "x": 1}}', "the key 'x' stands twice"),
        (b'{"input": "a", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"input": "a", "more": "' + b"x" * MAX_BYTES + b'"}', "longer than"),
        (b'{"input": "a", "output": null}', "field output"),
        (b'{"input": "a", "messages": []}', "it has messages and input"),
        (b'{"instruction": "a", "output": "b", "history": [["c", "d"]]}', "field history"),
        (b'{"input": "a", "label": "\xe4\xb8\xad"}', "none can be proposed"),
    ],
)
def test_a_wrong_line_is_named_with_the_reason(line, why):
    error = refusal(b'{"input": "good"}\n' + line)
    assert error.code == "dataset_malformed"
    assert error.detail.startswith("line 2: ")
    assert why in error.detail


def test_a_number_of_ten_thousand_digits_is_an_answer_like_any_other():
    digits = "7" * 10_000
    assert read_rows(f'{{"input": "a", "output": {digits}}}'.encode()) == [Row(input="a", output=digits)]


def test_brackets_in_a_text_are_no_nesting():
    assert read_rows(json.dumps({"input": "[]" * 500}).encode()) == [Row(input="[]" * 500)]


def test_a_field_of_another_shape_that_is_null_is_not_there():
    line = b'{"instruction": "a", "input": null, "output": "b", "messages": null, "conversations": null}'
    assert read_rows(line) == [Row(input="a", output="b")]


def test_an_instruction_alone_is_the_input():
    line = b'{"input": "", "instruction": "Name a fish.", "output": "eel"}'
    assert read_rows(line) == [Row(input="Name a fish.", output="eel")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_rows_are_the_same_in_whatever_pieces_they_come(size, end):
    data = end.join([b'{"input": "a"}', b"", '{"input": "é\u2028\u0085x"}'.encode(), b'{"input": ""}'])
    reader = RowReader()
    with pytest.raises(Invalid, match="line 4: field input"):
        fed(reader, data, size)
    assert reader.sha256.digest() == hashlib.sha256(data).digest()
    assert fed(RowReader(), data.rpartition(end)[0], size) == [Row(input="a"), Row(input="é\u2028\u0085x")]


@pytest.mark.parametrize(
    "data",
    [
        b"x\n" * 50_000,
        b"y" * (MAX_BYTES + 500_000),
        b"[" + b"x" * (MAX_BYTES + 500_000),
        b"input,output\n" + b'"a' * MAX_BYTES,
        b"a,b\n" + b"1,2\n" * 50_000,
        gzip.compress(b'{"input": "a"}\n' * 20_000)[:-4],
        gzip.compress(bytes(range(256)) * 4000)[:2000] + b"broken" * 20_000,
    ],
    ids=["no JSON", "a long line", "a long element", "an open quote", "unknown columns", "cut gzip", "damaged gzip"],
)
def test_what_decides_a_refusal_has_the_same_digest_in_whatever_pieces_it_comes(data):
    def digest(size):
        reader = RowReader()
        with pytest.raises(Invalid):
            fed(reader, data, size)
        return reader.sha256.digest()

    assert len({digest(size) for size in (1 << 16, 100_000, len(data))}) == 1


@pytest.mark.parametrize(
    "piece",
    [
        b'{"input":"a"}\n' * 1000,
        b'[{"input":"a"},' + b'{"input":"a"},' * 999,
        b"input,output\n" + b'"a, b",c\n' * 1000,
    ],
    ids=["JSON lines", "JSON array", "CSV"],
)
def test_reading_takes_the_memory_of_a_piece_however_many_rows_there_are(piece):
    reader, later = RowReader(), piece.removeprefix(b"[").removeprefix(b"input,output\n")
    list(reader.feed(piece))
    tracemalloc.start()
    try:
        count = sum(1 for _ in range(20) for _ in reader.feed(later))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (count, reader.row_count) == (20_000, 21_000)
    assert peak < MIB  # the rows themselves would take more than 8 MiB


def test_a_small_file_that_unpacks_to_a_large_one_takes_the_memory_of_a_piece_and_is_refused():
    bomb = gzip.compress((b" " * (MIB - 1) + b"\n") * 64)
    tracemalloc.start()
    try:
        error = refusal(bomb, max_unpacked_bytes=32 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (error.code, error.detail) == (
        "dataset_too_large",
        "unpacked, the file holds more than 32 MiB; split it",
    )
    assert peak < 8 * MIB


def test_all_wrong_lines_are_kept_and_the_first_are_told():
    error = refusal(b"x\n" * 30)
    assert error.detail.count("line ") == 5
    assert "; and 25 more. Mend" in error.detail
    assert [wrong.line for wrong in error.wrong] == list(range(1, 31))
    assert error.members["wrong_rows"] == 30


def test_a_file_is_given_up_after_as_many_wrong_lines_as_are_asked_for():
    assert refusal(b"x\n" * 300).wrong_count == MAX_WRONG
    assert refusal(b"x\n" * 300, max_wrong=250).wrong_count == 250


def test_an_empty_file_and_too_many_rows_are_refused():
    assert refusal(b" \n").code == refusal(b"").code == refusal(b"input,output\n").code == "dataset_empty"
    assert refusal(b"[]").code == refusal(gzip.compress(b"")).code == "dataset_empty"
    assert refusal(b'{"input": "a"}\n' * 3, max_rows=2).code == "dataset_too_large"


def test_the_same_rows_have_the_same_id_whatever_their_spelling():
    one = read_rows(b'{"input":"\\u00e9","output":"b"}')
    for other in (
        json.dumps({"output": "b", "input": " é "}, ensure_ascii=False).encode(),
        '[{"question": "é",\n "answer": "b"}]'.encode(),
        "completion,prompt\nb,é\n".encode(),
        '{"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "b"}]}'.encode(),
    ):
        assert dataset_id(dump_rows(one)) == dataset_id(dump_rows(read_rows(other)))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_table_of_every_separator_keeps_what_stands_in_quotes(separator):
    quoted = f'"a{separator}b ""c""\nd"'
    data = f"output{separator}input\n\n{quoted}{separator}x\n{separator}\nlast{separator}{quoted}".encode()
    text = f'a{separator}b "c"\nd'
    assert read_rows(data) == [Row(input="x", output=text), Row(input=text, output="last")]


def test_a_header_of_a_million_columns_takes_no_longer_than_its_length():
    assert "two columns are named 'x'" in refusal(b"x," * 1_000_000 + b"\n").detail


def test_lines_are_counted_through_fields_of_several_lines():
    error = refusal(b'input,output\n"a\nb\nc",d\nshort\n\n"x\n",y,z\n')
    assert [wrong.line for wrong in error.wrong] == [5, 7]


def test_text_after_a_closing_quote_is_refused_and_the_next_line_is_read():
    error = refusal(b'input,output\n"a" b,c\nshort\n')
    assert [wrong.reason.partition(":")[0] for wrong in error.wrong] == [
        "not CSV",
        "1 fields where the header names 2",
    ]


@pytest.mark.parametrize("names", ["input=a,output=b,c", "text=a", "input=", "output=a", "input=a,input=b", "input"])
def test_columns_that_are_named_wrongly_are_refused_with_an_example(names):
    from shared.data_files.columns import parse_columns

    with pytest.raises(Invalid, match="write input=COLUMN,output=COLUMN") as caught:
        parse_columns(names)
    assert caught.value.code == "columns_malformed"


def test_a_column_with_a_comma_stands_in_quotes():
    from shared.data_files.columns import parse_columns

    assert parse_columns('"input=Frage, kurz", output=Antwort=') == {"input": "Frage, kurz", "output": "Antwort="}
    assert parse_columns(" ") == {}


def test_labels_that_are_none_are_proposed_with_their_rows_and_taken_only_where_that_is_said():
    data = b'{"input": "a", "label": "Bank Cards"}\n' * 3 + b'{"input": "b", "label": "bank cards"}\n'
    error = refusal(data)
    assert error.members["labels"] == [
        {"given": "Bank Cards", "label": "bank-cards", "rows": 3},
        {"given": "bank cards", "label": "bank-cards", "rows": 1},
    ]
    assert error.members["errors"] == []
    assert {row.label for row in read_rows(data, accept_labels=True)} == {"bank-cards"}
    assert {row.label for row in read_rows(data, check_labels=False)} == {"Bank Cards", "bank cards"}


def test_more_labels_than_anybody_has_are_no_labels():
    data = "".join(json.dumps({"input": "a", "label": f"L {n}"}) + "\n" for n in range(1001)).encode()
    assert "is it the labels' column?" in refusal(data, accept_labels=True).detail
