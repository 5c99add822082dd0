"""The import rule of docs/architecture.md, read from the source itself."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "peft", "faiss", "accelerate", "datasets", "gguf", "sklearn", "scipy"}
SERVICES = {p.name for p in (ROOT / "services").iterdir() if p.is_dir() and p.name != "__pycache__"}
SOURCES = sorted(p for top in ("shared", "services") for p in (ROOT / top).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, *, at_top=False):
    """Modules a file imports when it runs; with `at_top`, only those that importing the file imports too."""
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


def breaches(rule):
    return [f"{module_name(path)} imports {name}" for path in SOURCES for name in imports(path) if rule(path, name)]


def service_of(name):
    parts = name.split(".")
    return parts[1] if parts[0] == "services" and len(parts) > 1 and parts[1] in SERVICES else None


def test_no_service_imports_another_but_the_command_line():
    def rule(path, name):
        own = service_of(module_name(path))
        return own not in (None, "cli") and service_of(name) not in (None, own)

    assert breaches(rule) == []


def test_shared_never_imports_services():
    assert breaches(lambda path, name: module_name(path).startswith("shared") and name.startswith("services")) == []


def test_the_domain_imports_only_the_standard_library_and_pure_shared_modules():
    pure = {
        "shared.contracts.labels",
        "shared.errors",
        "shared.contracts.jobs",
        "shared.contracts.manifests",
        "shared.contracts.prompts",
    }

    def rule(path, name):
        if ".domain" not in module_name(path):
            return False
        is_own = name.startswith(module_name(path).split(".domain")[0] + ".domain")
        return not (name.split(".")[0] in sys.stdlib_module_names or name in pure or is_own)

    assert breaches(rule) == []


def test_heavy_libraries_are_imported_by_infra_and_the_model_package_alone_and_lazily_there():
    def where(path):
        return "infra" if ".infra" in module_name(path) else "model" if "shared.model" in module_name(path) else "other"

    heavy = [(p, n, at_top) for p in SOURCES for at_top in (True, False) for n in imports(p, at_top=at_top)]
    wrong = [
        f"{module_name(path)} imports {name}"
        for path, name, at_top in heavy
        # An infra module may import at its top: its own package is imported lazily.
        if name.split(".")[0] in HEAVY and (where(path) == "other" or (where(path) == "model" and at_top))
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["services.cli.main", "services.api.app", "services.api.__main__"])
def test_the_command_line_and_the_api_start_without_heavy_libraries(module):
    program = f"import sys, importlib; importlib.import_module({module!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {name.split(".")[0] for name in loaded.stdout.split()} & (HEAVY | {"numpy"}) == set()


def test_every_queue_and_task_name_is_written_in_one_place():
    names = ['"signalbox.', '"generate.', "'generate."]
    found = [module_name(p) for p in SOURCES if any(n in p.read_text() for n in names)]
    assert found == ["shared.names"]


def reached_from(start):
    """Every module of ours that a program may import, at once or lazily."""
    found, todo = set(), [start]
    while todo:
        name = todo.pop()
        file = file_of(name)
        if name in found or not file.is_file():
            continue
        found.add(name)
        todo += [name.rpartition(".")[0], *imports(file), *imported_names(file)]
    return found


def imported_names(path):
    """`from package import module` names a module, too."""
    froms = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module)
    return (f"{node.module}.{alias.name}" for node in froms for alias in node.names)


def installed_with(*extras):
    """Names of the packages that pyproject.toml asks for: always, and with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(p for extra in extras for p in project["optional-dependencies"][extra])]
    return {re.split(r"[\[=<>]", package)[0] for package in asked}


def test_the_api_needs_nothing_but_what_its_image_installs():
    brought = {"kombu": "celery", "redis": "celery", "starlette": "fastapi", "urllib3": "minio"}
    brought |= {"opentelemetry": "opentelemetry-sdk"}
    modules = reached_from("services.api.__main__")
    used = {name.split(".")[0] for m in modules for name in imports(file_of(m))} - sys.stdlib_module_names
    packages = {brought.get(name, name).replace("_", "-") for name in used - {"shared", "services"}}
    assert packages - installed_with("api", "tracing") == set()
    assert len(modules) > 50


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
