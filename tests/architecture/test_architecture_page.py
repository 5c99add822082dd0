"""docs/architecture.md against the tree: every room has its row, every step of a walk is there and is reached."""

import re

import pytest

from tests.architecture.walks import bodies, files, section, walk
from tests.support.source import ROOT

WALKS = ("request", "selector.add")
MOST_FILES = 25
TOPS = ("services", "shared", "lab", "docs_site", "clients/python/signalbox")
# A service's own folder holds its wiring, which the text below the table names; lua is a part of the ledger.
WITHOUT_ROW = {
    "services",
    "shared",
    "services/api",
    "services/selector",
    "services/adapter_worker",
    "services/trainer",
} | {"services/cli"}


def rooms():
    packages = {path.parent for top in TOPS for path in (ROOT / top).rglob("*.py")}
    return {path.relative_to(ROOT).as_posix() for path in packages} - WITHOUT_ROW


def test_the_module_table_names_every_room_and_no_other():
    rows = [re.match(r"\| `([\w/]+)` \| (.+) \|", line) for line in section("modules")]
    named = [row.group(1) for row in rows if row]
    assert sorted(named) == sorted(rooms())


@pytest.mark.parametrize("name", WALKS)
def test_every_step_of_a_walk_is_a_function_of_the_tree(name):
    assert [step for step in walk(name) if not bodies(step)] == []


@pytest.mark.parametrize("name", WALKS)
def test_every_step_is_named_by_one_above_it_in_the_same_process(name):
    steps = walk(name)
    unreached = []
    for at, step in enumerate(steps):
        above = [one for one in steps[:at] if one.heading == step.heading]
        word = re.compile(rf"\b{re.escape(step.function.rpartition('.')[2])}\b")
        if above and not any(word.search(body) for one in above for body in bodies(one)):
            unreached.append(step)
    assert unreached == []


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_is_short(name):
    assert len(files(name)) <= MOST_FILES, files(name)


def test_every_question_of_a_newcomer_has_a_file_that_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    named = [name for row in rows for name in re.findall(r"`([\w/]+\.(?:py|lua))`", row)]
    assert len(rows) == 11
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_lines_of_python_on_the_first_page_are_those_that_a_test_runs():
    """tests/integration/api/test_client.py runs the lines of the client's own page."""
    blocks = [
        re.findall(r"```python\n(.*?)```", (ROOT / page / "README.md").read_text(), re.DOTALL)[0]
        for page in (".", "clients/python")
    ]
    assert blocks[0] == blocks[1]
