"""What this code must never do, read from the source itself: run what it was sent, or read a pickle."""

import ast
import re
from pathlib import Path

import pytest

from shared.queue.celery import make_celery
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for top in ("shared", "services", "clients", "benchmarks") for p in (ROOT / top).rglob("*.py"))
OURS = [path for path in SOURCES if "benchmarks" not in path.parts]
STARTED = sorted(
    p
    for pattern in ("docker-compose*.yml", "Dockerfile", "k8s/**/*.yaml", "k8s/**/*.env", "Makefile")
    for p in ROOT.glob(pattern)
)
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas"}
"""Modules that read or write pickles, or programs as data."""
RUNS_DATA = {"eval", "exec", "compile", "__import__"}
UNSAFE_CALLS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load"}


def nodes(paths, *kinds):
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def imported(node):
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}


def calls(paths):
    """Where, what is called as it is written, and its keywords."""
    for where, node in nodes(paths, ast.Call):
        yield where, ast.unparse(node.func), {word.arg: word.value for word in node.keywords}


def is_constant(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_imports_what_reads_pickles():
    found = [
        (where, name)
        for where, node in nodes(SOURCES, ast.Import, ast.ImportFrom)
        for name in imported(node)
        if name.split(".")[0] in PICKLES
    ]
    assert found == []


def test_nothing_that_was_read_is_run_or_unpickled():
    wrong = [
        (where, name)
        for where, name, words in calls(SOURCES)
        if name in RUNS_DATA | UNSAFE_CALLS
        or name.endswith(("read_pickle", "to_pickle"))
        or ("allow_pickle" in words and not is_constant(words["allow_pickle"], False))
        or is_constant(words.get("shell"), True)
    ]
    assert wrong == []


def test_every_model_and_tokenizer_is_loaded_without_programs_and_from_safetensors():
    loads = [
        (where, name, words)
        for where, name, words in calls(OURS)
        if name.startswith("Auto") and name.endswith((".from_pretrained", ".from_config"))
    ]
    assert len(loads) >= 6
    for where, name, words in loads:
        assert is_constant(words.get("trust_remote_code"), False), (where, name)
        has_weights = name.endswith(".from_pretrained") and "Tokenizer" not in name and "Config" not in name
        assert not has_weights or "gguf_file" in words or is_constant(words.get("use_safetensors"), True), (where, name)


def test_remote_code_is_trusted_nowhere():
    said = re.compile(r"trust[-_]remote[-_]code(?!\s*=\s*False)")
    texts = {path: path.read_text() for path in (*SOURCES, *STARTED)}
    assert [str(path) for path, text in texts.items() if said.search(text)] == []
    assert len(STARTED) > 20


def test_peft_never_chooses_the_class_by_what_a_file_says():
    names = [(where, ast.unparse(node)) for where, node in nodes(SOURCES, ast.Name, ast.Attribute)]
    assert [(where, name) for where, name in names if "AutoPeftModel" in name] == []


@pytest.mark.parametrize(
    "path", [p for p in OURS if "PeftModel.from_pretrained" in p.read_text()], ids=lambda p: p.name
)
def test_peft_reads_a_folder_only_after_it_was_checked(path):
    for _, node in nodes([path], ast.FunctionDef):
        body = ast.unparse(node)
        # A model card only tells others how to.
        called = {ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)}
        if "PeftModel.from_pretrained" in called:
            assert -1 < body.find("check_loadable(") < body.find("PeftModel.from_pretrained"), node.name


def test_jinja_runs_in_the_bounded_process_alone():
    """What renders the text of a file does so in a process that can open no file, and that ends in time.

    The console renders templates of its own package, which no caller writes.
    """
    found = {
        where.partition(":")[0]
        for where, node in nodes(SOURCES, ast.Import, ast.ImportFrom)
        for name in imported(node)
        if name.split(".")[0] in {"jinja2", "mako", "string.Template"}
    }
    assert found == {"shared/prompts/sandbox.py", "services/api/console/rendering.py"}
    console = (ROOT / "services/api/console/rendering.py").read_text()
    assert "from_string" not in console
    assert "autoescape=True" in console
    importing = [where for where, node in nodes(SOURCES, ast.Import, ast.ImportFrom) if "sandbox" in ast.unparse(node)]
    assert [where for where in importing if not where.startswith("shared/prompts/sandbox.py")] == []
    called = [(where, name) for where, name, _ in calls(SOURCES) if name.endswith("apply_chat_template")]
    assert called == []


def test_celery_takes_and_sends_json_alone():
    conf = make_celery(Settings(), "test").conf
    assert list(conf.accept_content) == ["json"]
    assert (conf.task_serializer, conf.task_ignore_result, conf.result_backend) == ("json", True, None)
    assert conf.worker_enable_remote_control is False


def test_every_proof_that_the_threat_table_names_is_there_and_no_threat_is_without_one():
    threats = (ROOT / "SECURITY.md").read_text().partition("\n## Threats\n")[2]
    rows = [line.split("|") for line in threats.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 15
    for _, threat, _who, _safeguard, proofs, _left, _ in rows:
        named = re.findall(r"`(tests/[\w/.]+)`", proofs)
        assert named, threat
        assert [path for path in named if not (ROOT / path).is_file()] == [], threat


def test_nobody_is_told_to_install_the_package_that_has_our_name_on_pypi():
    """Only `signalbox-client` may ever be ours there; everything else is installed from a clone."""
    advice = re.compile(r"pip3?\b[^\n]*\binstall\b[^\n]*[\s'\"]signalbox(?=[\[\s'\"`;,.]|$)", re.MULTILINE)
    pages = [ROOT / "Makefile", ROOT / "Dockerfile", *ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")]
    pages += [
        *SOURCES,
        *(ROOT / "lab").rglob("*.py"),
        *(ROOT / top / "pyproject.toml" for top in (".", "lab", "clients/python")),
    ]
    found = [page.relative_to(ROOT) for page in pages if advice.search(page.read_text())]
    assert found == []
    assert advice.search("pip install 'signalbox[tracing]'")
    assert advice.search("run pip install -U signalbox")
