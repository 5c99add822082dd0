"""Patterns say the whole of what they take: `$` lets a final newline through, and `match` all that follows.

pydantic checks a `pattern` by another engine: its `$` is the very end, but its `\\d` takes the digits of all scripts.
"""

import ast
import re

from tests.support.source import ROOT

SOURCES = sorted(
    p
    for top in ("services", "shared", "lab", "docs_site", "clients/python/signalbox")
    for p in (ROOT / top).rglob("*.py")
)
ENDS_LINES = {"iter_lines", "aiter_lines"}
OF_ALL_SCRIPTS = re.compile(r"\\[dws]")


def calls():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def texts(node):
    """The constant parts of the texts below a node, those of f-strings among them."""
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def is_of_re(call):
    return isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "re"


def fields_patterns():
    """(where, pattern) of every pydantic field."""
    return [(where, word.value) for where, call in calls() for word in call.keywords if word.arg == "pattern"]


def test_a_name_is_matched_whole():
    found = [where for where, call in calls() if isinstance(call.func, ast.Attribute) and call.func.attr == "match"]
    assert found == []  # use fullmatch


def test_no_pattern_ends_at_the_last_line_instead_of_the_end():
    patterns = [(where, text) for where, call in calls() if is_of_re(call) for text in texts(call)]
    assert [pair for pair in patterns if "$" in pair[1]] == []
    assert len(patterns) > 5


def test_a_fields_pattern_is_anchored_at_both_ends_and_names_its_characters():
    patterns = [(where, "".join(texts(node))) for where, node in fields_patterns()]
    assert [pair for pair in patterns if not (pair[1].startswith("^") and pair[1].endswith("$"))] == []
    assert [pair for pair in patterns if OF_ALL_SCRIPTS.search(pair[1])] == []
    assert len(patterns) >= 5


def test_no_stream_is_cut_at_characters_that_json_may_hold():
    found = [where for where, call in calls() if isinstance(call.func, ast.Attribute) and call.func.attr in ENDS_LINES]
    assert found == []  # httpx ends a line at U+2028, too: split at the newline


def test_no_model_checks_patterns_by_the_other_engine():
    assert [path.name for path in SOURCES if "python-re" in path.read_text()] == []
