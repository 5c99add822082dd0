"""The ledger's Lua: one script for each operation, with just the definitions that the operation needs.

Redis runs a script from its first line at every call, so each definition costs time whether or not it is used.
"""

import re
from functools import lru_cache
from pathlib import Path

from shared.contracts.jobs import DEFAULT_NEW_TOKENS, MAX_BEFORE, MAX_DEPENDENTS, TRANSITIONS, Stage
from shared.contracts.traffic import SKETCH_DAYS
from shared.ledger.keys import with_key_names

_PARTS = (
    "prelude",
    "lanes",
    "retention",
    "webhooks",
    "usage",
    "rollouts",
    "proposals",
    "traffic",
    "lifecycle",
    "dependents",
    "leases",
    "events",
    "users",
    "queries",
    "release",
    "batches",
)
SETTLED_AT_ONCE = 100
"""Jobs that one call goes through, at most, among those that waited for an ended one: 10 to 30 ms."""
SELECTIONS_KEPT = 100_000
"""Selections that wait at most to be counted, 140 bytes each: hours of traffic while nobody does."""
USAGE_DAYS = 400
"""How long a day's usage is kept, where no setting says otherwise."""
_FOLDER = Path(__file__).parent / "lua"
LUA = with_key_names("".join((_FOLDER / f"{part}.lua").read_text() for part in _PARTS))
"""All definitions; each begins at the start of a line with `local` or `function`."""

_ADD_WORK = {"create", "feedback", "batch_create", "begin_rollout", "follow_log"}
"""Operations that a full server refuses; those that bring accepted work to its end may exceed its limit of memory."""
_ALWAYS = "#!lua flags=allow-oom\n"
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_START = re.compile(r"^(?=local |function )", re.MULTILINE)
_DEFINED = re.compile(r"(?:local function|function|local) ([\w.]+)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_RUN = "return cjson.encode(operation(cjson.decode(ARGV[1])))\n"


@lru_cache
def script_of(op: str, max_lost_leases: int, usage_days: int = USAGE_DAYS) -> str:
    """Return the script that runs one operation: its argument and its reply are JSON."""
    text = _tables(max_lost_leases, usage_days) + LUA.replace(f"function op.{op}(", "local function operation(")
    definitions = [(_name(part), part) for part in _START.split(_COMMENT.sub("", text)) if part.strip()]
    needed = _needed(definitions)
    flags = "" if op in _ADD_WORK else _ALWAYS
    return flags + "".join(part for name, part in definitions if name in needed) + _RUN


def _tables(max_lost_leases: int, usage_days: int) -> str:
    """What Python defines, so that each has one definition; transitions as one string, which costs a call no tables."""
    legal = " ".join(f"{old}>{new}" for old, targets in TRANSITIONS.items() for new in sorted(targets))
    stages = (f"{s} = {{ waits = '{s.waiting_state}', runs = '{s.running_state}' }}" for s in Stage)
    return (
        f"local LEGAL = ' {legal} '\n"
        f"local STAGE = {{ {', '.join(stages)} }}\n"
        f"local DEFAULT_NEW_TOKENS = {DEFAULT_NEW_TOKENS}\n"
        f"local MAX_LOST = {max_lost_leases}\n"
        f"local USAGE_DAYS = {usage_days}\n"
        f"local SELECTIONS_KEPT = {SELECTIONS_KEPT}\n"
        f"local SKETCH_DAYS = {SKETCH_DAYS}\n"
        f"local MAX_BEFORE = {MAX_BEFORE}\n"
        f"local MAX_DEPENDENTS = {MAX_DEPENDENTS}\n"
        f"local SETTLED_AT_ONCE = {SETTLED_AT_ONCE}\n"
    )


def _name(definition: str) -> str:
    found = _DEFINED.search(definition)  # at its start: there the text was split
    if not found:
        raise ValueError(f"the ledger's script defines nothing here: {definition[:80]}")
    return found[1]


def _needed(definitions: list[tuple[str, str]]) -> set[str]:
    """The names that `operation` needs, directly or through others."""
    words: dict[str, set[str]] = {}
    for name, part in definitions:  # a name declared before its definition has two parts
        words.setdefault(name, set()).update(_WORD.findall(part))
    needed, todo = set(), ["operation"]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += words[name] & words.keys()
    return needed
