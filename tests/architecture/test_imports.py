"""The import rule of docs/architecture.md, read from the source itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.source import ROOT, file_of, imported_names, imports, module_name

HEAVY = {"torch", "transformers", "peft", "faiss", "accelerate", "datasets", "gguf", "sklearn", "scipy", "networkx"}
SERVICES = {p.name for p in (ROOT / "services").iterdir() if p.is_dir() and p.name != "__pycache__"}
CLIENT = "clients/python/signalbox"
SOURCES = sorted(p for top in ("shared", "services", "lab", CLIENT) for p in (ROOT / top).rglob("*.py"))
# What these rooms hold is imported lazily from outside of them, so inside they may import heavy libraries at their top.
HEAVY_ROOMS = (
    "services.adapter_worker.engine",
    "services.selector.scoring",
    "services.trainer.corpus",
    "services.trainer.data",
    "services.trainer.evaluation",
    "services.trainer.traffic",
    "services.trainer.training",
)
# Decisions that are tested without any library: only the standard library, pydantic and one another.
PURE = {
    "services.adapter_worker.adapters.residency",
    "services.adapter_worker.engine.native.prefill_budget",
    "services.adapter_worker.engine.native.waiting",
    "services.cli.gpu.memory",
    "services.cli.gpu.plan",
    "services.trainer.data.examples",
    "services.trainer.data.report",
    "services.trainer.data.split",
    "services.trainer.evaluation.answers",
    "services.trainer.evaluation.calibration",
    "services.trainer.evaluation.label_sets",
    "services.trainer.selector.difficulty",
    "services.trainer.selector.retention",
    "shared.data_files.columns",
    "shared.data_files.dialogues",
    "shared.data_files.forms",
    "shared.data_files.label_names",
    "shared.data_files.objects",
    "shared.data_files.preview",
    "shared.data_files.reader",
    "shared.data_files.refusals",
    "shared.data_files.shapes",
    "shared.data_files.tables",
    "shared.data_files.texts",
    "shared.data_files.unpack",
    "shared.errors",
    "shared.names",
}


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


def test_what_only_decides_imports_the_standard_library_and_the_contracts_alone():
    def is_pure(name):
        return name in PURE or name.startswith("shared.contracts")

    def rule(path, name):
        top = name.split(".")[0]
        return is_pure(module_name(path)) and not (top in sys.stdlib_module_names or top == "pydantic" or is_pure(name))

    assert breaches(rule) == []
    assert {module_name(path) for path in SOURCES} >= PURE


def test_heavy_libraries_are_imported_in_their_own_rooms_alone_and_lazily_in_the_model_package():
    def where(path):
        name = module_name(path)
        if name.startswith((*HEAVY_ROOMS, "lab.")):
            return "heavy"
        return "model" if name.startswith("shared.model") else "other"

    heavy = [(p, n, at_top) for p in SOURCES for at_top in (True, False) for n in imports(p, at_top=at_top)]
    wrong = [
        f"{module_name(path)} imports {name}"
        for path, name, at_top in heavy
        if name.split(".")[0] in HEAVY and (where(path) == "other" or (where(path) == "model" and at_top))
    ]
    assert wrong == []


def test_no_module_of_the_product_imports_the_laboratory_or_the_documentation():
    outside = {"lab", "docs_site"}
    assert (
        breaches(lambda path, name: module_name(path).split(".")[0] not in outside and name.split(".")[0] in outside)
        == []
    )


def test_the_command_line_speaks_to_the_api_by_the_client_alone():
    """But for the supervisor's own probe, and the demo's calls by OpenAI's client."""
    own = {"services.cli.local.supervisor": "httpx", "services.cli.demo.openai_calls": "openai"}

    def rule(path, name):
        module, top = module_name(path), name.split(".")[0]
        speaks = top in {"httpx", "requests", "openai", "aiohttp"} or name.startswith(("urllib.request", "http.client"))
        return module.startswith("services.cli") and speaks and own.get(module) != top

    assert breaches(rule) == []


def test_the_client_imports_nothing_of_the_product_and_only_its_users_import_the_client():
    def rule(path, name):
        module, imported = module_name(path), name.split(".")[0]
        if module.startswith("signalbox"):
            return imported not in sys.stdlib_module_names | {"httpx", "signalbox"}
        return imported == "signalbox" and not module.startswith(("services.cli", "lab"))

    assert breaches(rule) == []
    assert {module_name(path) for path in SOURCES} >= {"signalbox", "signalbox.client"}


def test_without_the_laboratory_the_command_line_lacks_its_commands_and_nothing_else(tmp_path):
    """An installation that has everything but the distribution of the laboratory, as an image has."""
    for name in ("shared", "services"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "signalbox").symlink_to(ROOT / CLIENT)
    others = [path for path in sys.path if path and "site-packages" in path]
    for place in map(Path, others):
        for entry in place.iterdir():
            is_ours = re.match(r"(__editable__|signalbox|lab\b|shared\b|services\b)", entry.name)
            target = tmp_path / entry.name
            if not is_ours and not target.exists():
                target.symlink_to(entry)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from services.cli.main import main; main()"
    command = [sys.executable, "-S", "-c", program, "--help"]
    env = {"PATH": "/usr/bin:/bin", "SIGNALBOX_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    commands = set(re.findall(r"^\W+([a-z0-9-]+) {2,}\w", done.stdout, re.MULTILINE))
    assert commands >= {"submit", "jobs", "train", "evaluate", "releases", "keys", "up", "doctor"}
    assert commands & {"reproduce", "run-reference"} == set()


@pytest.mark.parametrize(
    "module",
    [
        "services.cli.main",
        "services.api.app",
        "services.api.__main__",
        "services.selector.app",
        "services.adapter_worker.app",
        "services.trainer.app",
    ],
)
def test_every_service_and_the_command_line_start_without_heavy_libraries(module):
    program = f"import sys, importlib; importlib.import_module({module!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    # The light selector and the choice of data are made of numpy.
    unwanted = HEAVY if module in ("services.selector.app", "services.trainer.app") else HEAVY | {"numpy"}
    assert {name.split(".")[0] for name in loaded.stdout.split()} & unwanted == set()


def test_every_queue_and_task_name_is_written_in_one_place():
    names = ['"signalbox.select"', '"signalbox.generate"', '"signalbox.train"', '"generate.', "'generate."]
    found = [module_name(p) for p in SOURCES if any(n in p.read_text() for n in names)]
    assert found == ["shared.names"]


def test_every_key_of_the_ledger_is_written_in_one_place():
    spelled = re.compile(r"sb:(?!hint)[a-z]")
    files = [p for top in ("shared", "services", "lab", "tests", "benchmarks") for p in (ROOT / top).rglob("*")]
    sources = (path for path in files if path.suffix in (".py", ".lua") and "__pycache__" not in path.parts)
    found = {path.relative_to(ROOT).as_posix() for path in sources if spelled.search(path.read_text())}
    assert found == {"shared/ledger/keys.py"}


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


def installed_with(*extras):
    """Names of the packages that pyproject.toml asks for: always, and with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(p for extra in extras for p in project["optional-dependencies"][extra])]
    return {re.split(r"[\[=<>]", package)[0] for package in asked}


def test_the_api_needs_nothing_but_what_its_image_installs():
    brought = {"kombu": "celery", "redis": "celery", "starlette": "fastapi", "urllib3": "minio"}
    brought |= {"opentelemetry": "opentelemetry-sdk", "pydantic_core": "pydantic", "re2": "google-re2"}
    modules = reached_from("services.api.__main__")
    used = {name.split(".")[0] for m in modules for name in imports(file_of(m))} - sys.stdlib_module_names
    packages = {brought.get(name, name).replace("_", "-") for name in used - {"shared", "services"}}
    assert packages - installed_with("api", "tracing") == set()
    assert len(modules) > 50
