"""Whatever texts a file holds, its own writer's form is read back, in whatever pieces it comes."""

import contextlib
import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.data_files.reader import RowReader
from shared.data_files.tables import SEPARATORS
from shared.errors import Invalid

# A csv writer leaves a lone \r unquoted, at which a line ends.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\[]{},;\t\n\u2028'), max_size=30)
TEXT = ANY_TEXT.map(lambda text: text.replace("\r", "").strip()).filter(bool)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)
SIZES = st.integers(1, 50)


def read(data, size):
    reader = RowReader()
    found = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
    return [(one.row.input, one.row.output) for one in [*found, *reader.end()]]


@given(PAIRS, SIZES, st.booleans(), st.sampled_from([None, 1]))
def test_an_array_is_read_as_json_reads_it(pairs, size, ascii_only, indent):
    objects = [{"more": [text, {"x": [1, text]}], "input": text, "output": answer} for text, answer in pairs]
    data = json.dumps(objects, ensure_ascii=ascii_only, indent=indent).encode()
    assert read(data, size) == pairs


@given(PAIRS, SIZES, st.booleans())
def test_lines_are_read_as_json_reads_them(pairs, size, ascii_only):
    objects = [{"prompt": text, "completion": answer} for text, answer in pairs]
    data = "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in objects).encode()
    assert read(data, size) == pairs


@pytest.mark.parametrize("separator", SEPARATORS)
@given(PAIRS, SIZES, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_table_is_read_as_it_was_written(separator, pairs, size, end, quoting):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([("question", "answer"), *pairs])
    assert read(out.getvalue().encode(), size) == pairs


@given(st.binary(max_size=200), SIZES)
def test_no_bytes_end_in_anything_but_rows_or_a_refusal(data, size):
    with contextlib.suppress(Invalid):
        assert read(data, size)
