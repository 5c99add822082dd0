"""Tasks that share an adapter: planned by real runs, trained in two stages, measured, and proposed as a release."""

import random
from dataclasses import replace

import pytest

from services.trainer.handlers import run_kind
from shared.contracts.entries import entry_of
from shared.contracts.jobs import JobState
from shared.contracts.manifests import Release, Verdict
from shared.contracts.rows import Row
from tests.support.training import context_of

SETTINGS = {
    "epochs": 4, "rank": 2, "max_length": 128, "learning_rate": 0.02, "batch_size": 2, "accumulate": 2,
    "checkpoint_steps": 3, "dropout": 0.0,
}  # fmt: skip
COLOURS = ["red", "blue", "green", "black"]
TWO = {"bank.red": "bank.red", "bank.redder": "bank.redder"}
ALL = {**TWO, "bank.echo": "bank.echo"}


def classified(label, count, seed=0):
    """Rows of a binary task: whether a word stands in the text."""
    made = random.Random(f"{label}{seed}")
    for number in range(count):
        text = " ".join([*made.choices(COLOURS, k=3), str(number)])
        yield Row(instruction="Is it red?", input=text, output="yes" if "red" in text else "no")


def echoed(label, count, seed=0):
    made = random.Random(f"{label}{seed}")
    for number in range(count):
        text = f"{made.choice(COLOURS)} {number}"
        yield Row(instruction="Say it back.", input=text, output=text)


@pytest.fixture(autouse=True)
def datasets(clients):
    """Two tasks of classification and one of generation, with rows to validate on."""
    for label, made in {"bank.red": classified, "bank.redder": classified, "bank.echo": echoed}.items():
        clients.registry.datasets.add("t", label, list(made(label, 40)))
        clients.registry.datasets.add("t", f"{label}.val", list(made(label, 12, seed=1)))


@pytest.fixture
def submit(jobs):
    def submitted(kind, **body):
        return jobs.new_training(kind=kind, **{"settings": SETTINGS, **body})

    return submitted


class Killed(BaseException):
    """The end of a trainer's process."""


class DyingStore:
    """The object store of a trainer that dies right after it has stored an object whose key ends so."""

    def __init__(self, store, ending):
        self._store, self._ending = store, ending

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, content, *args, **kwargs):
        self._store.put(key, content, *args, **kwargs)
        self._die(key)

    def put_file(self, key, path, *args, **kwargs):
        self._store.put_file(key, path, *args, **kwargs)
        self._die(key)

    def _die(self, key):
        if key.endswith(self._ending):
            raise Killed


@pytest.fixture
def kill(jobs, clients):
    """Let an attempt at a job run until it has stored something, and be lost there."""

    def killed_after(job_id, ending):
        store = DyingStore(clients.store, ending)
        dying = replace(clients, store=store, registry=clients.registry.with_store(store))

        def work(job):
            with pytest.raises(Killed):
                run_kind(context_of(job, dying))

        jobs.lose_after(job_id, work)

    return killed_after


def succeeded(job):
    assert job.state is JobState.SUCCEEDED, job.error
    return job.result


def test_a_plan_groups_tasks_by_form_and_tells_their_resource_by_real_runs(run, submit):
    overrides = {"bank.echo": {"resource": "high"}}
    plan = succeeded(run(submit("multitask.plan", labels=ALL, overrides=overrides, split_by="both")))
    assert plan["groups"] == {
        "classification, single, binary": ["bank.red", "bank.redder"],
        "generation, single": ["bank.echo"],
    }
    assert plan["tasks"]["bank.echo"]["resource_reason"] == "high: said in the overrides"
    for label in TWO:
        task = plan["tasks"][label]
        losses = task["losses"]
        rises = [epoch for epoch in range(1, len(losses)) if losses[epoch] > min(losses[:epoch])]
        assert task["resource"] == ("low" if rises else "high")
        assert len(losses) == (rises[0] + 1 if rises else 4)  # the run ends where it is decided
        assert task["reasons"][0].startswith("classification: 2 different answers")


def test_a_killed_plan_goes_on_where_it_was(run, submit, kill):
    whole = succeeded(run(submit("multitask.plan", labels=TWO)))
    job_id = submit("multitask.plan", labels=TWO)
    kill(job_id, "plan-bank.red-1.json")
    kill(job_id, "plan-bank.redder/000000008.tar")  # a checkpoint whose loss is not known yet
    assert succeeded(run(job_id))["tasks"] == whole["tasks"]


def test_one_adapter_serves_every_label_by_a_version_and_a_prefix_of_its_own(run, submit, clients):
    result = succeeded(run(submit("multitask.train", labels=TWO, high_resource=["bank.red"], max_steps=20)))
    first = -(-result["train_rows"]["bank.red"] // 4)  # an epoch on the high-resource task
    assert [stage["steps"] for stage in result["stages"]] == [first, 20 - first]
    assert result["refs"] == {"bank.red": "bank.red@1", "bank.redder": "bank.redder@1"}
    for label, ref in result["refs"].items():
        manifest = clients.registry.adapters.get("t", ref)
        assert manifest.digest == result["adapter"]
        assert manifest.labels == {"bank.red": "Task: bank.red", "bank.redder": "Task: bank.redder"}
        entry = entry_of(label, manifest)
        assert (entry.prefix, entry.instruction) == (f"Task: {label}", "Is it red?")
    assert set(result["exact_match"]) == set(TWO)


def test_a_training_killed_in_either_stage_makes_the_same_weights(run, submit, kill, clients):
    body = {"labels": TWO, "high_resource": ["bank.red"], "max_steps": 20}
    whole = succeeded(run(submit("multitask.train", **body)))
    job_id = submit("multitask.train", **body)
    kill(job_id, "stage-1/000000003.tar")
    kill(job_id, "stage-2/000000006.tar")
    resumed = succeeded(run(job_id))
    assert resumed["adapter"] == whole["adapter"]
    assert resumed["refs"] == whole["refs"]  # the labels have these weights already
    assert clients.store.keys(f"checkpoints/{job_id}/") == []


def test_a_training_takes_its_first_stage_from_a_plan_of_the_tenant(run, submit, jobs, clients):
    overrides = {"bank.red": {"resource": "low"}, "bank.redder": {"resource": "high"}, "bank.echo": {"resource": "low"}}
    plan = submit("multitask.plan", labels=ALL, overrides=overrides)
    early = run_kind_error(jobs, clients, submit("multitask.train", labels=TWO, plan=plan))
    assert early.code == "job_unfinished"
    succeeded(run(plan))
    result = succeeded(run(submit("multitask.train", labels=ALL, plan=plan, max_steps=12, evaluate_rows=0)))
    assert list(result["stages"][0]["probabilities"]) == ["bank.redder"]
    assert "the plan keeps these tasks apart" in result["warnings"][0]
    for wrong, code in ((plan[:-1] + "x", "job_not_found"), (submit("multitask.plan", labels=TWO), "job_unfinished")):
        error = run_kind_error(jobs, clients, submit("multitask.train", labels=TWO, plan=wrong))
        assert error.code == code


def run_kind_error(jobs, clients, job_id):
    job = jobs.take(job_id)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        run_kind(context_of(job, clients))
    return raised.value


def test_a_first_stage_that_takes_the_whole_budget_is_refused(run, submit):
    job = run(submit("multitask.train", labels=TWO, high_resource=list(TWO), max_steps=16))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "budget_empty")
    assert "raise max_steps" in job.error["detail"]


@pytest.fixture
def shared(run, submit, release):  # after the release: the ledger of tests forgets a job in a minute
    """The training of a shared adapter that has learnt nothing."""
    settings = {**SETTINGS, "learning_rate": 1e-9}
    job_id = submit("multitask.train", labels=TWO, two_stages=False, max_steps=1, evaluate_rows=0, settings=settings)
    return run(job_id)


@pytest.fixture
def release(run, submit, clients):
    """A current release with single-task adapters, of which that of `bank.redder` has learnt nothing either."""
    rows = [row.model_copy(update={"output": "yes"}) for row in classified("bank.red", 20)]
    clients.registry.datasets.add("t", "yes", rows)  # one answer is all that so small a model learns soon
    entries = {}
    for label, rate, epochs in (("bank.red", 0.01, 40), ("bank.redder", 1e-9, 1)):
        more = {"learning_rate": rate, "epochs": epochs, "batch_size": 4, "accumulate": 1, "rank": 8}
        settings = {**SETTINGS, **more, "target_modules": "all-linear"}
        body = {"label": label, "dataset": "yes", "evaluate_rows": 0, "settings": settings}
        made = succeeded(run(submit("adapter.train", **body)))
        entries[label] = entry_of(label, clients.registry.adapters.get("t", made["ref"]))
    release = Release(
        tenant_id="t", base_model=clients.base_model, labels=entries, verdict=Verdict(passed=True, reasons=())
    )
    clients.registry.releases.promote("t", clients.registry.releases.add(release), force=True, by="test")
    return release


VALIDATION = {label: f"{label}.val" for label in TWO}


def test_a_proposal_sends_the_labels_that_lose_nothing_to_the_shared_adapter(run, submit, shared, release, clients):
    result = succeeded(run(submit("multitask.propose", job=shared.id, validation=VALIDATION)))
    red, redder = result["tasks"]["bank.red"], result["tasks"]["bank.redder"]
    assert red["single"][0] > red["shared"][0]  # or this test shows nothing
    assert (red["qualified"], redder["qualified"]) == (False, True)
    for one in (red, redder):
        assert one["difference"][1] <= one["difference"][0] <= one["difference"][2]
    assert result["qualified_labels"] == ["bank.redder"]
    assert (result["overhead"], result["slots_before"], result["slots_after"]) == (1.0, 2, 2)
    candidate = clients.registry.releases.get("t", result["release"])
    assert candidate.parent == release.id
    assert candidate.labels["bank.red"] == release.labels["bank.red"]
    assert candidate.labels["bank.redder"].adapter == shared.result["adapter"]
    assert candidate.labels["bank.redder"].prefix == "Task: bank.redder"
    assert candidate.verdict.passed
    releases = clients.registry.releases
    releases.promote("t", candidate.id, by="test")
    assert releases.current_id("t") == candidate.id
    releases.rollback("t", by="test")
    assert releases.current_id("t") == release.id


def test_a_killed_proposal_makes_its_candidate_once(run, submit, shared, release, clients, kill):
    job_id = submit("multitask.propose", adapter=shared.result["refs"]["bank.red"], validation=VALIDATION)
    kill(job_id, "measured-bank.red.json")
    before = len(clients.registry.releases.list_all("t"))
    result = succeeded(run(job_id))
    assert len(clients.registry.releases.list_all("t")) == before + 1
    assert result["release"] in {made.id for made in clients.registry.releases.list_all("t")}


def test_an_adapter_of_one_label_and_a_label_without_its_own_adapter_are_refused(
    jobs, submit, release, clients, shared
):
    single = release.labels["bank.red"].ref
    lone = run_kind_error(jobs, clients, submit("multitask.propose", adapter=single, validation=VALIDATION))
    assert lone.code == "adapter_unshared"
    more = {**VALIDATION, "bank.echo": "bank.echo.val"}
    unknown = run_kind_error(jobs, clients, submit("multitask.propose", job=shared.id, validation=more))
    assert unknown.code == "label_unshared"
    other = release.model_copy(
        update={
            "parent": release.id,
            "labels": {**release.labels, "bank.red": release.labels["bank.red"].model_copy(update={"base_model": "b"})},
        }
    )
    clients.registry.releases.promote("t", clients.registry.releases.add(other), force=True, by="test")
    apart = run_kind_error(jobs, clients, submit("multitask.propose", job=shared.id, validation=VALIDATION))
    assert apart.code == "adapter_base_mismatch"
    assert "leave the label out" in apart.detail
