"""Rows of tasks as files, and what a run without a system says."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from lab.reproduce.grid import cases_of
from lab.reproduce.session import open_session
from lab.reproduce.task_data import TaskRows
from services.cli.main import app
from shared.contracts.rows import Row, dataset_id, dump_rows
from shared.errors import Invalid, NotFound, Unavailable
from tests.support.reproduce_samples import GRID, case_of


@pytest.fixture
def folder(tmp_path):
    """Four rows of each file the sample grid needs, gzipped or not."""
    for label in GRID.labels:
        for part in ("train", "test"):
            lines = "\n".join(json.dumps({"input": f"{label} {part} {n}", "output": "x"}) for n in range(4))
            if part == "train":
                (tmp_path / f"{label}.{part}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
            else:
                (tmp_path / f"{label}.{part}.jsonl").write_text(lines)
    return tmp_path


class Api:
    """An API that holds data sets."""

    def __init__(self, *ids):
        self._ids = ids
        self.uploads = []

    def get(self, path):
        return {"items": [{"id": known} for known in self._ids]}

    def post(self, path, **more):
        self.uploads.append(more["params"]["name"])


def test_every_missing_file_is_named_before_anything_is_queued(folder):
    cases = cases_of(GRID, quick=False)
    TaskRows(folder).need(cases)
    (folder / "fin.sa.train.jsonl.gz").unlink()
    (folder / "med.ie.test.jsonl").unlink()
    with pytest.raises(NotFound, match=r"lacks fin\.sa\.train\.jsonl\.gz, med\.ie\.test\.jsonl\.gz") as error:
        TaskRows(folder).need(cases)
    assert error.value.code == "data_missing"


def test_a_body_names_data_sets_by_their_content_and_an_update_needs_none(folder):
    rows = TaskRows(folder)
    body = rows.body(case_of("1"))
    own = [Row(input=f"fin.sa train {n}", output="x") for n in range(4)]
    assert body["labels"]["fin.sa"] == dataset_id(dump_rows(own))
    assert rows.body(case_of("gone"))["labels"] == ["med.ie"]


def test_what_answers_is_judged_on_the_test_rows_and_trains_on_all_of_the_others(folder):
    rows = TaskRows(folder)
    adapter, model = rows.body(case_of("adapter")), rows.body(case_of("theirs"))
    assert (adapter["dataset"], adapter["validation"]) == (rows.dataset("fin.sa.train"), rows.dataset("fin.sa.test"))
    assert model["labels"]["med.ie"] == rows.dataset("med.ie.train")
    assert (model["evaluation"]["med.ie"], model["evaluate_rows"]) == (rows.dataset("med.ie.test"), 8)
    few = rows.body(case_of("theirs", quick=True))
    assert few["labels"]["med.ie"] == rows.dataset("med.ie.train", 3)
    assert (few["evaluation"]["med.ie"], few["evaluate_rows"]) == (rows.dataset("med.ie.test", 2), 4)


def test_rows_that_the_system_has_are_not_uploaded_again(folder):
    rows = TaskRows(folder)
    api = Api(rows.dataset("fin.sa.train"))
    rows.upload(api, cases_of(GRID, quick=False))
    assert api.uploads == ["fin.sa.test", "med.ie.test", "med.ie.train"]
    few = Api()
    rows.upload(few, cases_of(GRID, quick=True, only=["theirs"]))
    assert few.uploads == ["fin.sa.test-2", "fin.sa.train-3", "med.ie.test-2", "med.ie.train-3"]


def test_quick_routes_fewer_rows_which_names_another_outcome(folder):
    rows = TaskRows(folder)
    few, all_of_them = rows.test(case_of("1", quick=True)), rows.test(case_of("1"))
    assert (len(few.rows), len(all_of_them.rows)) == (4, 8)
    assert few.gold == ["fin.sa"] * 2 + ["med.ie"] * 2
    assert few.digest != all_of_them.digest


def test_a_file_that_does_not_read_is_named(folder):
    (folder / "fin.sa.test.jsonl").write_text("{")
    with pytest.raises(Invalid, match=r"fin\.sa\.test\.jsonl: line 1"):
        TaskRows(folder).test(case_of("1"))


@pytest.mark.parametrize(
    ("table", "kind", "says"), [("table9", Invalid, "there is no grid"), ("table1", NotFound, "lacks fin.red.test")]
)
def test_a_wrong_table_or_folder_is_one_sentence(folder, tmp_path, table, kind, says):
    done = CliRunner().invoke(app, ["reproduce", table, "--base", "x", "--data", str(folder), "--out", str(tmp_path)])
    assert isinstance(done.exception, kind)
    assert says in done.exception.detail


def test_without_a_system_it_says_what_to_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path))
    for label in ("med.ie", "med.mc", "legal.ie", "legal.mc", "fin.red", "fin.sa"):
        for part in ("train", "test"):
            (tmp_path / f"{label}.{part}.jsonl").write_text('{"input": "x"}')
    command = ["reproduce", "table1", "--base", "smollm2", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, Unavailable)
    assert "signalbox up" in done.exception.detail


def test_a_ledger_that_does_not_answer_is_told_before_anything_is_asked_of_the_api(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SIGNALBOX_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SIGNALBOX_API_KEY", "key")
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(Unavailable, match="SIGNALBOX_REDIS_URL"):
        open_session("smollm2", TaskRows(folder), tmp_path / "out")
