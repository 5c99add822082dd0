"""A short text that fits a constraint, written without a model."""

from llguidance import LLMatcher

from shared.constraints.program import END

_BITS = 8
_ENDS = b'"}]'
"""They come first, or a text would go on for ever."""
_PLAIN = bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("0"), ord("9") + 1)) + b":,"
_FIRST = _ENDS + _PLAIN
_ORDER = _FIRST + bytes(byte for byte in range(END) if byte not in _FIRST)


def fitting_text(matcher: LLMatcher, most: int) -> str:
    """Take the first byte in a fixed order that a matcher of bytes allows, until the text fits.

    A text of `most` bytes may not fit yet.
    """
    text = bytearray()
    while len(text) < most and not matcher.is_accepting():
        mask = matcher.compute_bitmask()
        byte = next((one for one in _ORDER if mask[one // _BITS] >> one % _BITS & 1), None)
        if byte is None:
            break
        matcher.consume_token(byte)
        text.append(byte)
    return text.decode(errors="ignore")
