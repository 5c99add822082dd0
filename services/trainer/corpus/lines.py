"""Documents as lines of JSON."""

import json
from typing import Any

_encoded = json.JSONEncoder(ensure_ascii=False).encode


def line_of(**fields: Any) -> bytes:
    """Return an object as a line of JSON; equal objects are equal bytes."""
    return f"{_encoded(fields)}\n".encode("utf-8", "replace")
