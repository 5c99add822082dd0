"""Long texts of a record, compressed."""

import secrets

import pytest

from shared.contracts.packing import PACK_ABOVE_CHARS, pack, unpack

PROSE = "Über die Brücke gehen wir, und dann weiter. "


@pytest.mark.parametrize("text", ["", "{}", PROSE, PROSE * 1000, "\N{CLOUD}" * 50_000, secrets.token_hex(50_000)])
def test_what_is_packed_is_read_back(text):
    assert unpack(pack(text)) == text


def test_short_texts_stay_as_they_are_and_long_ones_shrink():
    short = "x" * PACK_ABOVE_CHARS
    assert pack(short) == short
    assert len(pack(PROSE * 1000)) < len(PROSE * 1000) / 20


def test_what_compression_would_lengthen_is_kept_as_it_is():
    noise = secrets.token_urlsafe(PACK_ABOVE_CHARS)
    assert len(pack(noise)) <= len(noise)
    assert unpack(pack(noise)) == noise
