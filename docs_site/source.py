"""What a text in the code can be, read from the source alone: constants, f-strings, parameters by their callers."""

import ast
import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

GAP = "…"
"""Stands for what only a run knows."""
_MOST = 16
"""Texts that one expression may stand for; more are not told apart."""
_DEEPEST = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef
Texts = frozenset[str]
Given = Mapping[str, Texts] | None
ANY = frozenset({GAP})


class Class(NamedTuple):
    """A class, by the module that defines it."""

    module: "Module"
    node: ast.ClassDef


class Module:
    """One file: its functions, its constants, and what it imports."""

    def __init__(self, tree: "Tree", file: Path, name: str) -> None:
        self.tree, self.file, self.name = tree, file, name
        self.node = ast.parse(file.read_text())
        self.imports = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self.node)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    @cached_property
    def owners(self) -> dict[ast.AST, Function]:
        """The innermost function around each node."""
        found: dict[ast.AST, Function] = {}
        for function in self.functions:
            found |= dict.fromkeys(ast.walk(function), function)
        return found

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """Every class by its name."""
        return {node.name: node for node in ast.walk(self.node) if isinstance(node, ast.ClassDef)}

    @cached_property
    def functions(self) -> list[Function]:
        """Every function, those that hold others before these."""
        return [node for node in ast.walk(self.node) if isinstance(node, Function)]

    @cached_property
    def calls(self) -> list[ast.Call]:
        """Every call."""
        return [node for node in ast.walk(self.node) if isinstance(node, ast.Call)]

    def assigned(self, name: str, within: ast.AST) -> Iterator[ast.expr]:
        """What a name is bound to by assignments in a function or at the top of the module."""
        nodes = ast.walk(within) if isinstance(within, Function) else iter(self.node.body)
        for node in nodes:
            if isinstance(node, ast.Assign):
                yield from [node.value for target in node.targets if isinstance(target, ast.Name) and target.id == name]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
                yield from [node.value] if node.value else []

    def named(self, name: str) -> list[Function]:
        """The functions of a name."""
        return [function for function in self.functions if function.name == name]

    def texts(self, node: ast.expr, within: ast.AST | None = None, given: Given = None, depth: int = 0) -> Texts:
        """Every text that an expression can be; `GAP` for each part that only a run knows.

        Names mean what they mean `within` a function; those in `given` have these texts.
        """
        scope: ast.AST = self.node if within is None else within
        scope = self.owners.get(node, scope) if within is None else scope
        match node:
            case _ if depth > _DEEPEST:
                return ANY
            case ast.Constant(value=value):
                return frozenset({str(value)})
            case ast.FormattedValue(value=ast.Name(id=name)) if not (given and name in given):
                return self._written_out(name)
            case ast.JoinedStr() | ast.BinOp(op=ast.Add()):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node.left, node.right]
                return self._joined(parts, scope, given, depth)
            case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name):
                return given[name] if given and name in given else self._of_name(name, scope, depth)
        return self._either(self._choices(node), scope, given, depth) or self._returned(node, depth)

    def _choices(self, node: ast.expr) -> list[ast.expr]:
        """The expressions of which a run takes one."""
        match node:
            case ast.IfExp(body=body, orelse=other):
                return [body, other]
            case ast.Call(func=ast.Attribute(attr="get", value=ast.Name(id=name)), args=[_, other]):
                tables = [table for table in self.assigned(name, self.node) if isinstance(table, ast.Dict)]
                return [other, *(value for table in tables for value in table.values)]
            case ast.Subscript(value=whole, slice=ast.Slice()):
                return [whole]
        return []

    def _either(self, nodes: list[ast.expr], within: ast.AST, given: Given, depth: int) -> Texts:
        return frozenset().union(*(self.texts(node, within, given, depth + 1) for node in nodes))

    def _joined(self, parts: list[ast.expr], within: ast.AST, given: Given, depth: int) -> Texts:
        options = [self.texts(part, within, given, depth + 1) for part in parts]
        many = itertools.product(*(sorted(one) if len(one) <= _MOST else [GAP] for one in options))
        return frozenset("".join(one) for one in itertools.islice(many, _MOST))

    def _returned(self, node: ast.expr, depth: int) -> Texts:
        """What a call of a function of this module, or of one that it imports, can return."""
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        origin, of = self.imports.get(name, ("", ""))
        if origin in self.tree.modules:
            return self.tree.modules[origin]._returned(ast.Call(ast.Name(of), [], []), depth + 1)
        returned = [
            self.texts(node.value, function, None, depth + 1)
            for function in self.named(name)
            for node in ast.walk(function)
            if isinstance(node, ast.Return) and node.value
        ]
        return frozenset().union(*returned) or ANY

    def _written_out(self, name: str) -> Texts:
        """The text of a constant of this module."""
        values = [value for value in self.assigned(name, self.node) if isinstance(value, ast.Constant)]
        return self.texts(values[0]) if values else ANY

    def _of_name(self, name: str, within: ast.AST, depth: int) -> Texts:
        if isinstance(within, Function):
            bound = list(self.assigned(name, within))
            if bound:
                return frozenset().union(*(self.texts(one, within, None, depth + 1) for one in bound))
            if name in [one.arg for one in parameters(within)]:
                return self._of_parameter(within, name, depth)
        for value in self.assigned(name, self.node):
            return self.texts(value, self.node, None, depth + 1)
        module, of = self.imports.get(name, ("", ""))
        if module in self.tree.modules:
            return self.tree.modules[module].texts(ast.Name(of), None, None, depth + 1)
        return ANY

    def _of_parameter(self, function: Function, name: str, depth: int) -> Texts:
        found: set[str] = set()
        for module, call in self.tree.calls_of(function.name, self):
            value = argument(call, function, name)
            # What a caller passes on of its own parameter of the same name is told by its own callers.
            found |= module.texts(value, None, None, depth + 1) if value is not None else set()
        default = default_of(function, name)
        return frozenset(found | (self.texts(default, self.node, None, depth + 1) if default else set())) or ANY


class Tree:
    """The modules of some folders."""

    def __init__(self, root: Path, tops: tuple[str, ...]) -> None:
        self.root = root
        files = sorted(file for top in tops for file in (root / top).rglob("*.py") if "tests" not in file.parts)
        named = {_module_name(file.relative_to(root)): file for file in files}
        self.modules = {name: Module(self, file, name) for name, file in named.items()}

    @cached_property
    def _calls(self) -> dict[str, list[tuple[Module, ast.Call]]]:
        found: dict[str, list[tuple[Module, ast.Call]]] = {}
        for module in self.modules.values():
            for call in module.calls:
                found.setdefault(called(call), []).append((module, call))
        return found

    def calls_of(self, name: str, home: Module) -> list[tuple[Module, ast.Call]]:
        """The calls of a function in the modules that define or import it."""
        return [
            (module, call)
            for module, call in self._calls.get(name, [])
            if module is home or module.imports.get(name) == (home.name, name)
        ]

    def class_of(self, module: Module, name: str) -> Class | None:
        """The class that a name means in a module."""
        if name in module.classes:
            return Class(module, module.classes[name])
        origin, of = module.imports.get(name, ("", ""))
        return self.class_of(self.modules[origin], of) if origin in self.modules and origin != module.name else None


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def parameters(function: Function) -> list[ast.arg]:
    """The parameters by position, then those by name alone."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def argument(call: ast.Call, function: Function, name: str) -> ast.expr | None:
    """What a call gives to a parameter, if it gives anything."""
    for word in call.keywords:
        if word.arg == name:
            return word.value
    names = [one.arg for one in parameters(function)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    at = names.index(name) if name in names else len(call.args)
    return call.args[at] if at < len(call.args) else None


def default_of(function: Function, name: str) -> ast.expr | None:
    """The default of a parameter, if it has one."""
    by_position = [*function.args.posonlyargs, *function.args.args]
    with_default = by_position[len(by_position) - len(function.args.defaults) :]
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(zip(with_default, function.args.defaults, strict=True))
    pairs += zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return next((value for one, value in pairs if one.arg == name), None)


def _module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    parts = parts[2:] if parts[0] == "clients" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
