"""Whole characters only, and nothing of a stop string."""

import random

import pytest

from services.adapter_worker.engine.detokenize import Detokenizer, StopScanner

TEXT = "naïve \u2013 漢字 🚂🚃 e\u0301 done"


def decode_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def test_no_piece_holds_half_a_character():
    detokenizer = Detokenizer(decode_bytes)
    pieces = [detokenizer.push(byte) for byte in TEXT.encode()]
    assert "".join(pieces) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)
    assert detokenizer.flush() == ""


def test_a_character_cut_off_at_the_end_comes_as_a_replacement():
    detokenizer = Detokenizer(decode_bytes)
    pieces = [detokenizer.push(byte) for byte in "é".encode()[:1]]
    assert (pieces, detokenizer.flush()) == ([""], "\ufffd")


def test_pieces_of_random_bytes_are_the_text_of_all_of_them():
    chance = random.Random(1)
    for _ in range(200):
        ids = [chance.choice([chance.randrange(256), 0xF0, 0x9F, 0x9A, 0x82, 65]) for _ in range(30)]
        detokenizer = Detokenizer(decode_bytes)
        assert "".join([*map(detokenizer.push, ids), detokenizer.flush()]) == decode_bytes(ids)


@pytest.mark.parametrize(
    ("stops", "shown"),
    [
        (("END",), "one EN two "),
        (("two", "END"), "one EN "),
        (("",), "one EN two ENDEND"),
        (("never",), "one EN two ENDEND"),
        (("ENDENDEND",), "one EN two ENDEND"),
        (("o",), ""),
    ],
)
def test_text_before_the_first_stop_string_is_shown_and_nothing_more(stops, shown):
    for width in (1, 2, 3, 5, 50):
        scanner = StopScanner(stops)
        text = "one EN two ENDEND"
        pieces = [scanner.push(text[at : at + width]) for at in range(0, len(text), width)]
        assert "".join(pieces) + scanner.flush() == shown


def test_text_that_may_begin_a_stop_string_waits():
    scanner = StopScanner(("\n\n",))
    assert [scanner.push("a\n"), scanner.push("b\n"), scanner.push("\nc")] == ["a", "\nb", ""]
    assert scanner.hit
