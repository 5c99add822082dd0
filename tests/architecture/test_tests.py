"""The rooms of the tests: what they share lies in `tests/support`, and `tests/unit` needs no model library."""

import re
import subprocess
import sys

import pytest

from tests.support.source import ROOT, imported_names, imports, module_name

TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
HEAVY = {"torch", "transformers", "peft", "faiss", "accelerate"}


def imported_by(paths):
    """(who, what) of every import, lazy ones included; what is named from a package counts as a module of it."""
    return [(module_name(path), name) for path in paths for name in {*imports(path), *imported_names(path)}]


def test_no_test_module_and_no_conftest_is_imported():
    def is_a_tests_own(name):
        return name.startswith("tests.") and any(part.startswith(("test_", "conftest")) for part in name.split("."))

    # A name that a module gives counts, too: its module is the part before it.
    found = [(who, name) for who, name in imported_by(TESTS + BENCHMARKS) if is_a_tests_own(name)]
    assert found == []


def test_what_suites_share_imports_no_suite():
    support = [path for path in TESTS if path.relative_to(ROOT).parts[1] == "support"]
    found = [(who, name) for who, name in imported_by(support) if name.startswith("tests.")]
    assert [pair for pair in found if not pair[1].startswith("tests.support")] == []
    assert len(support) > 15


def test_a_suite_imports_itself_and_what_suites_share_alone():
    def room(name):
        return ".".join(name.split(".")[:2])

    found = [(who, name) for who, name in imported_by(TESTS) if name.startswith("tests.")]
    assert [pair for pair in found if room(pair[1]) not in ("tests.support", room(pair[0]))] == []


def test_benchmarks_and_tests_meet_where_one_tests_the_other_and_in_what_suites_share():
    from_tests = [pair for pair in imported_by(BENCHMARKS) if pair[1].startswith("tests")]
    assert [pair for pair in from_tests if not pair[1].startswith("tests.support.")] == []
    from_benchmarks = [pair for pair in imported_by(TESTS) if pair[1].split(".")[0] == "benchmarks"]
    # The fault suite writes its figures in the benchmarks' form.
    allowed = [pair for pair in from_benchmarks if pair[0].startswith("tests.unit.benchmarks.")]
    allowed += [pair for pair in from_benchmarks if room_of_figures(*pair)]
    allowed += [pair for pair in from_benchmarks if pair[0] == "tests.system.test_loop"]  # a benchmark in short form
    assert [pair for pair in from_benchmarks if pair not in allowed] == []


def room_of_figures(who, name):
    return who.startswith("tests.chaos.") and (name == "benchmarks" or name.startswith("benchmarks.common"))


@pytest.mark.timeout(120)
def test_the_unit_tests_and_their_fixtures_are_imported_without_a_model_library():
    unit = [module_name(path) for path in TESTS if path.is_relative_to(ROOT / "tests" / "unit")]
    program = (
        "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]];"
        "[importlib.import_module(name) for name in sys.modules['tests.conftest'].pytest_plugins];"
        "print('loaded', *sys.modules)"
    )
    asked = [sys.executable, "-W", "ignore", "-c", program, "tests.conftest", *unit]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = done.stdout.splitlines()[-1].split()
    assert set(unit) <= set(loaded)
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()


@pytest.mark.slow
def test_a_module_stays_in_one_process():
    makefile = (ROOT / "Makefile").read_text()
    (options,) = re.findall(r"^PYTEST_IN_PARALLEL := -n \$\(TEST_PROCESSES\) (.+)$", makefile, re.MULTILINE)
    asked = [sys.executable, "-m", "pytest", "-vv", "-n", "2", *options.split(), "tests/unit/ci", "tests/unit/lab"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT)
    ran = re.findall(r"^\[(gw\d)\] .* (tests/\S+\.py)::", done.stdout, re.MULTILINE)
    assert {process for process, _ in ran} == {"gw0", "gw1"}
    assert len({module for _, module in ran}) == len(set(ran))
