"""What a row leaves behind, and when it need not run again."""

import json

import pytest

from tests.chaos import outcome
from tests.chaos.outcome import Outcome, finished, keep
from tests.chaos.promises import PROMISES
from tests.chaos.sizes import LONG, SHORT

COUNTS = {"jobs": 3}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(outcome, "RESULTS", tmp_path / "results.json")
    return tmp_path / "results.json"


def told(lost=0):
    made = Outcome({"kills": 2})
    made.at_most("jobs_lost", lost, 0)
    return made


def test_a_row_is_written_in_the_common_form_with_its_promise_and_what_was_injected(results):
    keep(PROMISES[5], COUNTS, told())
    (row,) = json.loads(results.read_text())["rows"]
    assert {"key", "value", "spread", "unit", "goal", "met", "command", "promise", "injected"} <= set(row)
    assert (row["promise"], row["injected"], row["met"]) == (5, {"kills": 2}, True)
    assert row["command"] == "python -m tests.chaos 5"


def test_a_row_that_runs_again_takes_its_own_place_alone(results):
    for number in (5, 2, 5):
        keep(PROMISES[number], COUNTS, told())
    assert [row["promise"] for row in json.loads(results.read_text())["rows"]] == [2, 5]


def test_a_row_is_finished_for_its_commit_and_its_counts_alone(results, monkeypatch):
    assert not finished(PROMISES[5], COUNTS)
    keep(PROMISES[5], COUNTS, told())
    assert finished(PROMISES[5], COUNTS)
    assert not finished(PROMISES[5], {"jobs": 4})
    assert not finished(PROMISES[2], COUNTS)
    keep(PROMISES[2], COUNTS, told(lost=1))
    assert not finished(PROMISES[2], COUNTS)  # what is broken is looked at again
    monkeypatch.setattr(outcome, "commit", lambda: "another")
    assert not finished(PROMISES[5], COUNTS)


def test_a_figure_that_misses_its_goal_is_named():
    assert (told().broken, told(lost=1).broken) == ([], ["jobs_lost"])


def test_every_promise_has_counts_for_both_forms():
    assert set(PROMISES) == set(LONG) == set(SHORT) == set(range(1, 26))


@pytest.mark.parametrize("number", sorted(LONG))
def test_a_long_row_injects_and_waits_for_less_than_half_an_hour(number):
    assert LONG[number].get("seconds", 0) + LONG[number].get("patience_seconds", 0) < 1800
