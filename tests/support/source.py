"""What the files of this repository import, read from their source."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[0] == "clients" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path, *, at_top=False):
    """Modules a file imports when it runs; with `at_top`, only those that importing the file imports too."""
    return tuple(_imports(path, at_top))


def _imports(path, at_top):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    hidden = {id(n) for i in nodes if is_type_checking(i) for n in ast.walk(i)}
    if at_top:
        hidden |= {id(n) for f in nodes if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    for node in (n for n in nodes if id(n) not in hidden):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@functools.cache
def imported_names(path):
    """`from package import module` names a module, too."""
    froms = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module)
    return tuple(f"{node.module}.{alias.name}" for node in froms for alias in node.names)


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
