"""The walks of docs/architecture.md, held against the code: `python -m tests.architecture.walks` counts their files."""

import ast
import re
from typing import NamedTuple

from tests.support.source import ROOT

PAGE = ROOT / "docs" / "architecture.md"


class Step(NamedTuple):
    """One function that a job passes, and the heading it stands under."""

    heading: str
    file: str
    function: str


def walk(name):
    """The steps of a walk, in order."""
    heading, steps = "", []
    for line in section(f"walk: {name}"):
        if line.startswith("### "):
            heading = line.removeprefix("### ")
        files = [(at.start(), at.group(1)) for at in re.finditer(r"`([\w/]+\.(?:py|lua))`", line)]
        for found in re.finditer(r"`([\w.]+)`", line):
            if not found.group(1).endswith((".py", ".lua")):
                file = [file for start, file in files if start < found.start()][-1]
                steps.append(Step(heading, file, found.group(1)))
    return steps


def section(name):
    """The lines between a marker of the page and the next end."""
    text = PAGE.read_text()
    start = text.index(f"<!-- {name} -->")
    return text[start : text.index("<!-- end -->", start)].splitlines()[1:]


def bodies(step):
    """The source of every function of this name in the step's file: methods of several classes may share it."""
    source = (ROOT / step.file).read_text()
    if step.file.endswith(".lua"):
        found = re.search(rf"^function {re.escape(step.function)}\(.*?^end$", source, re.DOTALL | re.MULTILINE)
        return [found.group(0)] if found else []
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return [ast.get_source_segment(source, node) for node in functions if node.name == step.function]


def files(name):
    """The different files of a walk."""
    return sorted({step.file for step in walk(name)})


if __name__ == "__main__":
    for name in ("request", "selector.add"):
        print(f"{name}: {len(files(name))} files, {len(walk(name))} functions")  # noqa: T201 - a script that counts
