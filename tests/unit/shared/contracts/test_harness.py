"""What people wrote in a user turn, without what harnesses put there."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.harness import HARNESS_TAGS, HUMAN_TAGS, human_text

PLAIN = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=60)
PIECES = st.lists(
    st.one_of(
        PLAIN,
        st.sampled_from(["<", ">", "</", "<file", "<file>", "</file>", '<file path="a">', "<file/>", "<b>", "</b>"]),
        st.sampled_from(["<tool_result>", "</tool_result>", "<user_query>", "</user_query>", "</ file>", "<FILE>"]),
    ),
    max_size=20,
).map("".join)


@pytest.mark.parametrize(
    ("turn", "human"),
    [
        ("Fix it.", "Fix it."),
        ("<system-reminder>Be careful.</system-reminder>\nFix it.", "Fix it."),
        ("Fix\n<tool_result id='1'>\nok\n</tool_result>\nit", "Fix\nit"),
        ("<FILE Path='a'>x</File> fix it", "fix it"),
        ("<tool_result><file>a</file> b <file>c</file></tool_result>fix", "fix"),
        ("<file>a <file>b</file> c</file> fix", "fix"),
        ("<file>a <tool_result>b</file> c</tool_result> fix", "fix"),
        ("<user_query>fix it</user_query>", "fix it"),
        ("<user_query>fix <file>x</file> it</user_query>", "fix\nit"),
        ("<tool_result>done</tool_result>", ""),
        ("if a < b and c > d </b> then", "if a < b and c > d </b> then"),
        ("<b>bold</b> and <code>x</code>", "<b>bold</b> and <code>x</code>"),
        ("<file>is never closed", "<file>is never closed"),
        ("was never opened</file>", "was never opened</file>"),
        ("<file/> is empty </file>", "<file/> is empty </file>"),
        ("<files2>x</files2> <file-x>y</file-x>", "<files2>x</files2> <file-x>y</file-x>"),
    ],
)
def test_blocks_of_known_tags_are_left_out_and_nothing_else(turn, human):
    assert human_text(turn) == human


def test_a_release_can_name_more_tags():
    turn = "<memo-block>x</memo-block> go on"
    assert human_text(turn) == turn
    assert human_text(turn, ["MEMO-block"]) == "go on"


def test_names_are_told_apart_from_those_around_human_words():
    assert not HARNESS_TAGS & HUMAN_TAGS
    assert {name.lower() for name in HARNESS_TAGS | HUMAN_TAGS} == HARNESS_TAGS | HUMAN_TAGS


@given(PLAIN, PLAIN, PLAIN, st.sampled_from(sorted(HARNESS_TAGS)))
def test_text_around_a_block_stays(before, inside, after, tag):
    left = human_text(f"{before}<{tag}>{inside}</{tag}>{after}")
    assert left == "\n".join(part.strip() for part in (before, after) if part.strip())


@given(PLAIN)
def test_text_without_blocks_is_the_same_text(text):
    assert human_text(text) == text


@given(PIECES)
def test_what_is_left_stands_in_the_turn_in_its_order(turn):
    left, at = human_text(turn), 0
    for line in left.split("\n"):
        at = turn.index(line, at) + len(line)
    assert len(left) <= len(turn)


@given(PIECES)
def test_what_is_left_has_no_block_of_its_own(turn):
    left = human_text(turn)
    assert human_text(left) == left or "\n" in left  # pieces that were apart may become a block where they are joined


@pytest.mark.parametrize(
    "piece",
    ["<", "<a", "<file>", "</file>", "<file ", "<file></file>", "<a\n", "<file <", "<user_query></user_query>", "a</"],
)
def test_a_megabyte_of_tags_takes_no_longer_than_its_length_asks_for(piece):
    hostile = "</" + piece * (1_000_000 // len(piece))
    started = time.process_time()
    human_text(hostile)
    assert time.process_time() - started < 5


def test_half_a_megabyte_of_open_tags_and_as_many_closed_ones_are_left_out():
    assert human_text("<file>" * 50_000 + "</file>" * 50_000 + "fix") == "fix"
