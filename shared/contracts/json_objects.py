"""JSON objects whose keys are unique: of two values under one key, readers take different ones."""

from collections import Counter
from typing import Any


class RepeatedKey(ValueError):
    """An object has a key twice."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs, as `object_pairs_hook` of the JSON reader; raises `RepeatedKey`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise RepeatedKey(f"the key {key[:64]!r} stands twice; leave one of them out")
    return found
