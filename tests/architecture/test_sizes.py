"""Functions that can be read at a glance, files that hold one thing."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEDIAN, NINTH_TENTH, LONGEST, LONGEST_FILE = 7, 17, 60, 300
SOURCES = sorted(
    path
    for top in ("services", "shared", "lab", "docs_site", "clients")
    for path in (ROOT / top).rglob("*.py")
    if "tests" not in path.parts
)


def functions():
    """Name and length of every function's body, its docstring left out, that of functions inside it counted in."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def test_functions_are_short():
    lengths = dict(functions())
    assert [name for name, lines in lengths.items() if lines > LONGEST] == []
    values = sorted(lengths.values())
    assert statistics.median(values) <= MEDIAN
    assert values[len(values) * 9 // 10] <= NINTH_TENTH


def test_files_are_short():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}
