"""How conditions are queued: once, and anew only where a job has failed."""

import pytest
from signalbox import ApiError, Event, Job

from lab.reproduce.grid import cases_of
from lab.reproduce.results_store import Failure, Outcomes
from lab.reproduce.run import Run, finish_all, recall_or_prepare
from lab.reproduce.session import Session
from lab.reproduce.task_data import HeldOutRows
from shared.contracts.rows import Row
from shared.errors import NotFound, Unavailable
from shared.settings import Settings
from tests.support.reproduce_samples import GRID, case_of, outcome_of

CASES = cases_of(GRID, quick=False)


class Rows:
    """Data sets by name, no test rows."""

    def body(self, case):
        if case.condition.kind == "adapter.train":
            return {**case.job, "dataset": "ds_1"}
        labels = case.job["labels"]
        return {**case.job, "labels": dict.fromkeys(labels, "ds_1") if case.condition.id != "gone" else labels}

    def test(self, case):
        return HeldOutRows([Row(input="x")], [case.labels[0]])


class Api:
    """An API whose training jobs fail or all make one release, or that answers with an error itself."""

    def __init__(self, error=None, makes=""):
        self.error = error
        self.makes = makes
        self.keys = []

    def post(self, path, body, headers):
        self.keys.append(headers["Idempotency-Key"])
        if self.error:
            raise self.error
        return {"id": f"job_{len(self.keys)}"}

    def events(self, path):
        yield Event(
            type="progress", data={"stage": "training", "step": 1, "steps": 2, "loss": 1.0, "seconds_left": 1.0}
        )

    def job(self, job):
        if self.makes:
            return Job.from_dict({"id": job.id, "state": "succeeded", "result": {"release": self.makes}})
        error = {"code": "training_diverged", "detail": "lower learning_rate"}
        return Job.from_dict({"id": job.id, "state": "failed", "error": error})


class Releases:
    """A registry that has some releases and adapters."""

    def __init__(self, *ids):
        self._ids = ids
        self.releases = self.adapters = self

    def get(self, tenant_id, name):
        if name not in self._ids:
            raise NotFound("release_not_found", "no such release")


@pytest.fixture
def run(tmp_path):
    def make(api=None, wanted=("1", "2", "gone"), releases=("rel_1",)):
        names = frozenset(case.name for case in CASES if case.condition.id in wanted and case.text == "input")
        session = Session(api, Releases(*releases), Settings(), "smollm2", tmp_path, "a82e", Rows(), Outcomes(tmp_path))
        return Run("sample", GRID, False, CASES, names, session, tmp_path)

    return make


def keep(case, made, **changes):
    pending = recall_or_prepare(case, made)
    made.session.outcomes.keep(pending.key, outcome_of(case.condition.id, **changes))


def test_a_finished_condition_is_recalled_and_not_asked_for(run):
    made = run()
    keep(case_of("1"), made)
    assert recall_or_prepare(case_of("1"), made) is None
    assert made.results["1", "input"] == outcome_of("1")


def test_a_condition_that_was_not_wanted_is_recalled_but_never_run(run):
    made = run(wanted=["2"])
    assert recall_or_prepare(case_of("1"), made) is None
    assert made.results == {}


def test_an_update_names_the_release_of_its_parent_and_waits_for_it(run):
    made = run()
    assert recall_or_prepare(case_of("gone"), made) is None
    assert made.results == {}
    made.results[case_of("1").name] = outcome_of("1", release="rel_7")
    assert recall_or_prepare(case_of("gone"), made).body["parent"] == "rel_7"


def test_a_parent_whose_release_the_system_lacks_is_run_again_for_the_updates_to_come(run):
    keep(case_of("1"), run())
    assert recall_or_prepare(case_of("1"), run(releases=())).case == case_of("1")
    assert recall_or_prepare(case_of("1"), run(releases=(), wanted=["1"])) is None


ADAPTER = {"body": {"label": "fin.sa", "settings": {"seed": 0}}, "measured": {}, "release": "", "adapter": "d1"}


def test_a_release_takes_the_adapters_that_its_conditions_made(run):
    made = run(wanted=["adapter", "answering"])
    assert recall_or_prepare(case_of("answering"), made) is None
    made.results[case_of("adapter").name] = outcome_of("adapter", **ADAPTER)
    assert recall_or_prepare(case_of("answering"), made).body["adapters"] == {"fin.sa": "d1"}


@pytest.mark.parametrize(("has", "is_pending"), [((), True), (("d1",), False)])
def test_an_adapter_that_the_system_lacks_is_trained_again_for_the_release_to_come(run, has, is_pending):
    keep(case_of("adapter"), run(wanted=["adapter"]), **ADAPTER)
    pending = recall_or_prepare(case_of("adapter"), run(wanted=["adapter", "answering"], releases=has))
    assert (pending is not None) == is_pending
    assert recall_or_prepare(case_of("adapter"), run(wanted=["adapter"], releases=has)) is None


def test_a_parent_whose_updates_are_finished_needs_no_release(run):
    made = run()
    keep(case_of("1"), made)
    made.results[case_of("1").name] = outcome_of("1")
    keep(case_of("gone"), made, release="rel_2")
    without = run(releases=())
    assert [recall_or_prepare(case_of(name), without) for name in ("1", "gone")] == [None, None]
    assert set(without.results) == {case_of("1").name, case_of("gone").name}


TO_MEASURE = Failure("release_not_found", "no such release")
"""What comes of a measurement here, where no registry has the release that a job made."""


@pytest.mark.parametrize(("makes", "expected"), [("rel_1", outcome_of("1")), ("rel_2", TO_MEASURE)])
def test_what_is_known_of_a_release_stands_for_no_other(run, makes, expected):
    keep(case_of("1"), run())
    made = run(Api(makes=makes), releases=())
    finish_all([recall_or_prepare(case_of("1"), made)], made)
    assert made.results["1", "input"] == expected


def test_an_update_fails_with_its_parent(run):
    made = run()
    made.results[case_of("1").name] = Failure("training_diverged", "lower learning_rate")
    assert recall_or_prepare(case_of("gone"), made) is None
    assert made.results["gone", "input"].code == "parent_failed"


def test_a_failed_job_is_named_the_others_go_on_and_the_next_run_takes_another_key(run):
    api = Api()
    for _ in range(2):
        made = run(api, wanted=["1", "2"])
        finish_all([recall_or_prepare(case_of(name), made) for name in ("1", "2")], made)
        assert {result.code for result in made.results.values()} == {"training_diverged"}
    assert len(set(api.keys)) == 4
    assert [key.rsplit("-", 1)[1] for key in api.keys] == ["0", "0", "1", "1"]


def test_a_run_that_was_cut_off_asks_with_the_same_key_again(run):
    pending = recall_or_prepare(case_of("1"), run())
    api = Api(Unavailable("api_unreachable", "run `signalbox up`"))
    for _ in range(2):
        with pytest.raises(Unavailable):
            finish_all([pending], run(api))
    assert len(set(api.keys)) == 1


def test_a_refused_job_is_a_failed_condition_and_the_report_is_written(run, tmp_path):
    made = run(Api(ApiError("dataset_not_found", "no data set")))
    finish_all([recall_or_prepare(case_of("1"), made)], made)
    assert made.results["1", "input"] == Failure("dataset_not_found", "no data set")
    assert "failed: dataset_not_found" in (tmp_path / "sample.md").read_text()
