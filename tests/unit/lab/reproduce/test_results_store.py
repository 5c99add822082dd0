"""What names a condition, and what is kept of it."""

import json
from pathlib import Path

import pytest

from lab.reproduce.grid import cases_of, grid_names, load_grid
from lab.reproduce.results_store import Outcomes, outcome_key, training_key
from lab.reproduce.task_data import TaskRows
from tests.support.reproduce_samples import outcome_of

HERE = Path(__file__).parents[4]
TASKS, REPORTED = HERE.parent / "shared" / "data" / "as12", HERE / "docs" / "reproduction"
BODY = {"kind": "selector.train", "labels": {"fin.sa": "ds_1", "med.ie": "ds_2"}}


def test_a_training_is_named_by_what_it_means_not_by_how_it_is_written():
    same = {**BODY, "labels": dict(reversed(BODY["labels"].items())), "settings": {"rank": 8}, "text": "input"}
    assert training_key("base", same) == training_key("base", BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"fin.sa": "ds_1", "med.ie": "ds_3"}},
        {"settings": {"seed": 1}},
        {"selection": {"distance": "cos"}},
        {"text": "instruction+input"},
        {"parent": "rel_1"},
    ],
)
def test_whatever_determines_a_training_is_in_its_name(change):
    assert training_key("base", {**BODY, **change}) != training_key("base", BODY)
    assert training_key("another", BODY) != training_key("base", BODY)


def test_an_outcome_is_of_one_table_one_training_and_its_test_rows():
    keys = {outcome_key(*parts) for parts in (("a", "t", "r"), ("b", "t", "r"), ("a", "u", "r"), ("a", "t", "s"))}
    assert len(keys) == 4


def test_what_is_kept_is_found_again_and_nothing_else_is(tmp_path):
    outcomes = Outcomes(tmp_path)
    assert outcomes.get("k") is None
    outcomes.keep("k", outcome_of())
    outcomes.keep("q", outcome_of(quick=True))
    assert Outcomes(tmp_path).get("k") == outcome_of()
    assert list(outcomes.of("sample", quick=False)) == [outcome_of()]
    assert list(outcomes.of("another", quick=False)) == []


@pytest.mark.parametrize("line", ['{"key": "k", "table": "sample"}', '{"key": "k", "tab', '{"table": "sample"}'])
def test_a_line_of_another_version_or_cut_off_is_measured_anew_and_takes_no_other_along(tmp_path, line):
    Outcomes(tmp_path).keep("q", outcome_of())
    file = tmp_path / "conditions.jsonl"
    file.write_text(f"{line}\n{file.read_text()}")
    assert Outcomes(tmp_path).get("k") is None
    assert Outcomes(tmp_path).get("q") == outcome_of()


def test_a_failed_job_is_counted_once_whoever_tells_of_it(tmp_path):
    outcomes = Outcomes(tmp_path)
    for job in ("job_1", "job_1", "job_2"):
        outcomes.note_failed("t", job)
    assert Outcomes(tmp_path).job_key("t").endswith("-t-2")
    assert outcomes.job_key("u").endswith("-u-0")


def test_a_folder_keeps_its_keys_and_another_folder_has_others(tmp_path):
    key = Outcomes(tmp_path / "one").job_key("t")
    assert Outcomes(tmp_path / "one").job_key("t") == key
    assert Outcomes(tmp_path / "other").job_key("t") != key


def test_whoever_deletes_what_only_later_runs_need_gets_new_jobs(tmp_path):
    key = Outcomes(tmp_path).job_key("t")
    (tmp_path / "run.json").unlink()
    assert Outcomes(tmp_path).job_key("t") != key


@pytest.mark.slow
@pytest.mark.skipif(not TASKS.is_dir(), reason=f"the paper's tasks are not in {TASKS}")
def test_what_this_repository_reports_is_still_found_by_its_name():
    rows = TaskRows(TASKS)
    grids = [load_grid(name) for name in grid_names()]
    cases = [case for grid in grids for quick in (False, True) for case in cases_of(grid, quick=quick)]
    rows.need(cases)
    digests = {rows.test(case).digest for case in cases}
    kept = Outcomes(REPORTED)
    lines = (REPORTED / "conditions.jsonl").read_text().splitlines()
    names = [json.loads(line)["key"] for line in lines]
    assert len(names) > 50
    for name in names:
        outcome = kept.get(name)
        training = training_key(outcome.base_id, outcome.body)
        assert name in {outcome_key(outcome.table, training, digest) for digest in digests}
