"""Every error code of the code, with the sentences that stand beside it: cause, then remedy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docs_site.source import (
    ANY,
    GAP,
    Class,
    Function,
    Given,
    Module,
    Texts,
    Tree,
    argument,
    called,
    default_of,
    parameters,
)

TOPS = ("shared", "services", "clients/python/signalbox", "lab")
ROOTS = {"shared.errors", "signalbox.errors"}
"""Modules whose `SignalboxError` every error comes from."""
INTERNAL = {"NotAcquired", "MustRunAlone", "CancelledMeanwhile", "StaleAttempt", "StaleBatch"}
"""Classes that only processes of the system tell each other."""
EXPANDED = {
    ("services/api/infra/rate_limits.py", "too_many_…"): ("too_many_requests", "too_many_tokens"),
    ("services/api/select/service.py", "job_…"): ("job_cancelled", "job_failed", "job_rejected"),
    ("services/api/openai/ending.py", "job_…"): ("job_cancelled", "job_failed", "job_rejected"),
    ("clients/python/signalbox/calls.py", "job_…"): ("job_cancelled", "job_failed", "job_rejected"),
    ("services/api/batches/output.py", "batch_…"): ("batch_cancelled", "batch_expired"),
    ("services/api/http/problems.py", "http_…"): ("http_…",),
    ("shared/registry/records.py", "…_corrupt"): ("release_corrupt",),
    ("shared/ledger/calls/leases.py", "job_…"): tuple(
        f"job_{why}" for why in ("finished", "gone", "leased", "moved", "waiting")
    ),
    ("shared/ledger/calls/lifecycle.py", "…"): ("dependency_failed", "dependency_unknown"),
}
"""Codes that a file makes of values: what the values can be."""


WRITTEN = {
    "request_invalid": "the fields that `errors` names are wrong: correct each as its message says",
    "kind_unsupported": "there is no such `kind`: take one of those that the message lists",
    "invalid_request": "a field of the line is wrong: correct it as the message says",
    "missing_required_parameter": "the line lacks a field: add the one that `param` names",
    "unknown_parameter": "the line has a field that is not known: remove the one that `param` names",
    "http_…": "another status of the framework, which is part of the code: correct the request as its text says",
}
"""Sentences of codes whose own ones only a run knows."""


class Told(NamedTuple):
    """One place where a code is told."""

    code: str
    detail: str
    status: int | None
    """HTTP status; none of what is never an answer."""
    is_retryable: bool
    file: str
    is_internal: bool = False


class UnreadableCode(Exception):
    """A code is made of values that this module cannot read."""


def told(root: Path) -> list[Told]:
    """Return every place where a code is told; raises `UnreadableCode`."""
    tree = Tree(root, TOPS)
    found = [one for module in tree.modules.values() for one in _of_module(tree, module)]
    return [*found, *_of_lua(root)]


def _of_module(tree: Tree, module: Module) -> Iterator[Told]:
    for call in module.calls:
        error = _error_class(tree, module, called(call))
        if error is not None:
            yield from _of_call(tree, module, call, error)
        elif called(call) == "LineError" and call.keywords:
            fields = {word.arg: word.value for word in call.keywords}
            for given in _ways(tree, module, call, fields["code"]):
                codes, details = (module.texts(fields[name], None, given) for name in ("code", "message"))
                yield from _each(module, codes, details, 400, False)
    for node in ast.walk(module.node):
        if isinstance(node, ast.Dict):
            yield from _of_dict(module, node)


def _ways(tree: Tree, module: Module, call: ast.Call, code: ast.expr | None) -> Iterator[Given]:
    """What the parameters of the function around a call are: by each of its callers, where one of them is the code."""
    within = module.owners.get(call)
    names = [one.arg for one in parameters(within)] if within else []
    if within is None or not isinstance(code, ast.Name) or code.id not in names:
        yield None
        return
    for caller, outer in tree.calls_of(within.name, module):
        values = {name: argument(outer, within, name) or default_of(within, name) for name in names}
        if not _is_passed_on(caller, values[code.id]):
            yield {name: caller.texts(value) for name, value in values.items() if value is not None}


def _is_passed_on(module: Module, code: ast.expr | None) -> bool:
    """Whether a code is that of another error, which is told of where it arises."""
    return code is not None and module.texts(code) == ANY and "code" in ast.unparse(code)


def _of_dict(module: Module, node: ast.Dict) -> Iterator[Told]:
    """An error written as fields: a code beside its sentence."""
    fields = {
        key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
    }
    sentence = fields.get("detail") or fields.get("message")
    if sentence is not None and isinstance(fields.get("code"), ast.JoinedStr | ast.Constant):
        yield from _each(module, module.texts(fields["code"]), module.texts(sentence), None, False)


def _of_call(tree: Tree, module: Module, call: ast.Call, error: Class) -> Iterator[Told]:
    lineage = list(_lineage(tree, error))
    maker, init = next((one, init) for one in lineage if (init := _own_init(one)))
    code, detail = _super_call(init)
    if any(isinstance(one, ast.Starred) for one in call.args):
        return  # an error that another process wrote down
    origin = argument(call, init, code.id) if isinstance(code, ast.Name) else code
    is_internal = any(one.node.name in INTERNAL for one in lineage)
    status = None if is_internal else _constant(lineage, "status")
    for outer in _ways(tree, module, call, origin):
        values = {one.arg: argument(call, init, one.arg) for one in parameters(init)}
        given = {name: module.texts(value, None, outer) if value else ANY for name, value in values.items()}
        codes, details = (maker.module.texts(one, init, given) for one in (code, detail))
        if codes != ANY or not _is_passed_on(module, origin):
            yield from _each(module, codes, details, status, bool(_constant(lineage, "retryable")), is_internal)


def _each(
    module: Module, codes: Texts, details: Texts, status: int | None, retryable: bool, is_internal: bool = False
) -> Iterator[Told]:
    file = module.file.relative_to(module.tree.root).as_posix()
    for pattern in sorted(codes):
        if pattern == GAP and (file, GAP) not in EXPANDED:
            raise UnreadableCode(f"{file}: a code is made of what only a run knows; write what it can be into EXPANDED")
        if GAP in pattern and (file, pattern) not in EXPANDED:
            raise UnreadableCode(f"{file}: {pattern}: write what it can be into EXPANDED of docs_site/error_codes.py")
        for code in EXPANDED.get((file, pattern), (pattern,)):
            for detail in sorted(details):
                sentence = WRITTEN.get(code, detail) if not detail.strip("…: ") else detail
                yield Told(code, sentence, status, retryable, file, is_internal)


def _error_class(tree: Tree, module: Module, name: str) -> Class | None:
    """The class of an error, where this is the name of one."""
    if not name[:1].isupper():
        return None
    found = tree.class_of(module, name)
    is_error = found and any(
        one.module.name in ROOTS and one.node.name == "SignalboxError" for one in _lineage(tree, found)
    )
    return found if is_error else None


def _lineage(tree: Tree, error: Class) -> Iterator[Class]:
    """A class, then those that it comes from."""
    yield error
    for base in error.node.bases:
        if isinstance(base, ast.Name) and (parent := tree.class_of(error.module, base.id)):
            yield from _lineage(tree, parent)


def _own_init(error: Class) -> Function | None:
    return next((one for one in error.node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)


def _super_call(init: Function) -> tuple[ast.expr, ast.expr]:
    """Code and sentence as a class gives them on to the one that it comes from; the first of all takes them."""
    for node in ast.walk(init):
        if isinstance(node, ast.Call) and called(node) == "__init__" and len(node.args) > 1:
            return node.args[0], node.args[1]
    return ast.Name("code"), ast.Name("detail")


def _constant(lineage: list[Class], name: str) -> int | None:
    """A number that a class states, or the nearest one that it comes from."""
    for node in (node for error in lineage for node in error.node.body):
        match node:
            case ast.Assign(targets=[ast.Name(id=stated)], value=ast.Constant(value=int() as value)) if stated == name:
                return value
    return None


_LUA = re.compile(
    r"(?:fail\(job, |code = )'(?P<code>\w+)', (?:detail = )?(?P<detail>[^\n]+?)(?:, (?:true|retryable)|\))"
)


def _of_lua(root: Path) -> Iterator[Told]:
    """What the ledger's script writes into the jobs that it ends itself."""
    for file in sorted((root / "shared/ledger/lua").glob("*.lua")):
        for found in _LUA.finditer(file.read_text()):
            pieces = re.split(r"'((?:[^'\\]|\\.)*)'", found["detail"])
            # Texts stand at odd places; what is joined to them, if anything, between them.
            detail = "".join(piece if at % 2 else GAP * bool(piece.strip(" .")) for at, piece in enumerate(pieces))
            yield Told(found["code"], detail, None, False, file.relative_to(root).as_posix())
