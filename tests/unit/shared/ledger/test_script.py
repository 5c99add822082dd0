"""Each operation's script: what it needs, and nothing else."""

import re

import pytest

from shared.ledger import script
from tests.support.scripts import OPERATIONS

SCRIPTS = {op: script.script_of(op, 3) for op in OPERATIONS}


def defined(text):
    return set(re.findall(r"^(?:local function|local|function) (\w+)", text, re.MULTILINE)) - {"op"}


@pytest.mark.parametrize("op", OPERATIONS)
def test_a_script_defines_what_it_uses_and_uses_what_it_defines(op):
    names = defined(SCRIPTS[op])
    used = set(re.findall(r"\w+", re.sub(r"^(local function|local|function) \w+", "", SCRIPTS[op], flags=re.MULTILINE)))
    assert names - used == set()
    assert (used & defined(script.LUA)) - names == set()


def test_each_definition_is_in_the_script_of_some_operation():
    assert defined(script.LUA) - set().union(*map(defined, SCRIPTS.values())) == set()


def test_the_number_of_lost_leases_is_the_settings():
    assert "local MAX_LOST = 7\n" in script.script_of("expire", 7)


def test_everything_in_a_script_stands_in_a_definition():
    starts = {line.split(" ")[0] for line in script.LUA.splitlines() if line and not line.startswith((" ", "--", "}"))}
    assert starts == {"local", "function", "end"}
