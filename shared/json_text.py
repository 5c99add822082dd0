"""JSON as a line of text."""

_LINE_ENDS = {0x85: r"\u0085", 0x2028: r"\u2028", 0x2029: r"\u2029"}


def on_one_line(text: str) -> str:
    """Escape the characters of a JSON text at which many readers end a line, and which JSON may hold as they are."""
    return text.translate(_LINE_ENDS)
