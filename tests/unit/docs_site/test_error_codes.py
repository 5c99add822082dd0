"""Error codes read from source: by class, by parameter, by table, and from the ledger's script."""

import pytest

from docs_site.error_codes import UnreadableCode, told

ERRORS = """
class SignalboxError(Exception):
    status = 500
    retryable = False
    def __init__(self, code, detail):
        super().__init__(detail)

class Invalid(SignalboxError):
    status = 422

class Busy(SignalboxError):
    status = 503
    retryable = True

class StaleAttempt(SignalboxError):
    def __init__(self, job):
        super().__init__("stale", f"{job} has another")
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "shared/ledger/lua").mkdir(parents=True)
    (tmp_path / "shared/errors.py").write_text(ERRORS)

    def read(source, lua=""):
        (tmp_path / "shared/one.py").write_text(f"from shared.errors import Busy, Invalid, StaleAttempt\n{source}")
        (tmp_path / "shared/ledger/lua/a.lua").write_text(lua)
        return [(one.code, one.detail, one.status) for one in told(tmp_path)]

    return read


def test_a_sentence_keeps_what_is_written_out_of_it(tree):
    source = 'HOW = "write less"\ndef f(n):\n    raise Invalid("long", f"{n} are too many: {HOW}")'
    assert tree(source) == [("long", "… are too many: write less", 422)]


def test_a_code_that_is_a_parameter_is_that_of_each_caller_with_its_own_sentence(tree):
    source = (
        "def refuse(code, why):\n    return Invalid(code, f'{why}: mend it')\n"
        "def f(error):\n    refuse('one', 'first')\n    refuse('two', 'second')\n    refuse(error.code, 'passed on')"
    )
    assert tree(source) == [("one", "first: mend it", 422), ("two", "second: mend it", 422)]


def test_a_class_may_know_its_code(tree):
    source = (
        "class Gone(Busy):\n    def __init__(self, kind):\n"
        "        super().__init__(f'{kind}_gone', f'the {kind} is gone')\n"
        "def f():\n    raise Gone('store')\n    raise StaleAttempt('job')"
    )
    assert tree(source) == [("store_gone", "the store is gone", 503), ("stale", "job has another", None)]


def test_the_ledgers_script_is_read_too(tree):
    lua = "fail(job, 'late', n .. ' came late; give it time', true)\n"
    lua += "local why = { code = 'dead', detail = 'look', retryable = false }"
    assert tree("", lua) == [("late", "… came late; give it time", None), ("dead", "look", None)]


def test_a_code_that_nobody_can_read_is_refused(tree):
    with pytest.raises(UnreadableCode, match=r"shared/one\.py: too_…: write what it can be"):
        tree("def f(what):\n    raise Invalid(f'too_{what}', 'less')")
