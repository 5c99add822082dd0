"""JSON objects of a file: numbers stay as they were written, keys are unique, depth is bounded."""

import json
from typing import Any, NoReturn

from shared.contracts.json_objects import unique_keys

MAX_BYTES = 2 << 20
"""Of one record: more than the longest texts take where every character is escaped."""
MAX_DEPTH = 100
TOO_DEEP = "its brackets are nested too deeply; leave such fields out"
TOO_LONG = f"longer than {MAX_BYTES} bytes; shorten its texts, leave other fields out"


class Number(str):
    """A number as it was written: 0.10 is not 0.1 where it is an answer."""

    __slots__ = ()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no value of JSON; write it as a text, or null")


_DECODER = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Read one JSON object; raises `ValueError` with the reason and what to do."""
    if len(raw) > MAX_BYTES:
        raise ValueError(TOO_LONG)
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise ValueError(TOO_DEEP)
    try:
        value = _DECODER.decode(decoded(raw))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def decoded(raw: bytes) -> str:
    """Return the text of a record; raises `ValueError` where it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def _depth(raw: bytes) -> int:
    """The deepest nesting, brackets in texts counted in: only many brackets bring a text here."""
    depth = deepest = 0
    for sign in raw.translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if sign in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


_ALL_BUT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
