"""How a table is fitted into a terminal."""

import pytest
from rich.cells import cell_len

from services.cli.columns import fit

HEAD = ["id", "label", "state", "created_at"]
ROW = [
    "job_0123456789abcdef01234567",
    "international.customer-complaints",
    "succeeded",
    "2026-11-30T08:09:10.123+00:00",
]


def test_a_table_with_room_is_whole():
    found = fit([HEAD, ROW], 120)
    assert [cell.rstrip() for cell in found.lines[1]] == [*ROW[:3], "2026-11-30 08:09"]
    assert (found.left_out, found.is_shortened) == ([], False)


def test_the_widest_cells_are_shortened_first_and_an_id_never():
    found = fit([HEAD, ROW], 80)
    assert found.lines[1] == ["job_0123456789abcdef01234567", "internatio…complaints", "succeeded", "2026-11-30 08:09"]
    assert (found.left_out, found.is_shortened) == ([], True)


def test_the_last_columns_are_left_out_where_even_short_cells_have_no_room():
    found = fit([HEAD, ROW], 60)
    assert found.lines[0] == [cell.ljust(len(other)) for cell, other in zip(HEAD, found.lines[1], strict=False)]
    assert found.left_out == ["created_at"]


def test_a_name_keeps_both_its_ends():
    path = "tenants/default/datasets/ds_0123456789abcdef01234567.jsonl"
    found = fit([["key", "bytes"], [path, "123"]], 40)
    assert found.lines[1][0].startswith("tenants/default")
    assert found.lines[1][0].endswith("01234567.jsonl")


def test_a_sentence_keeps_its_beginning():
    found = fit([["reason"], ["its config names another base model"]], 20)
    assert found.lines[1] == ["its config names an…"]


@pytest.mark.parametrize("width", range(30, 200, 7))
@pytest.mark.parametrize("label", ["short", "国際的な苦情処理の窓口" * 3])
def test_no_line_is_wider_than_the_terminal_and_all_are_as_wide(width, label):
    rows = [HEAD, ROW, ["job_1", label, "failed", ""]]
    lines = ["  ".join(line) for line in fit(rows, width).lines]
    assert {cell_len(line) for line in lines} == {cell_len(lines[0])}
    assert cell_len(lines[0]) <= width
