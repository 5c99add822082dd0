"""A release moved from one tiny base model to another of a different width and vocabulary, by two trainers."""

from dataclasses import replace

import pytest

from services.trainer.handlers import train
from shared.contracts.jobs import JobState
from shared.contracts.rows import Row
from shared.contracts.training import parse_training
from shared.ledger import calls
from shared.model.base import base_model_id, load_tokenizer
from shared.names import queue_on_base
from shared.prompts.bound import BasePrompts
from tests.support.samples import rows
from tests.support.tiny_model import save_tiny_model
from tests.support.training import LABELS, SELECTOR, attempt_at

MOVED = LABELS[:2]


@pytest.fixture(scope="session")
def wider_folder(tmp_path_factory):
    """A base model that takes no adapter of the tiny one: twice as wide, with tokens of its own."""
    return save_tiny_model(tmp_path_factory.mktemp("wider"), seed=1, hidden_size=64, more_tokens=["the", "card"])


@pytest.fixture
def newer(clients, wider_folder):
    """The clients of a trainer with the new base model."""
    tokenizer = load_tokenizer(wider_folder)
    return replace(
        clients,
        base_folder=wider_folder,
        base_model=base_model_id(wider_folder),
        base_manifest="e" * 64,
        tokenizer=tokenizer,
        prompts=BasePrompts(tokenizer, wider_folder),
    )


@pytest.fixture
def run_on(attempts, jobs):
    """Let a trainer take the next job of a queue."""

    def take(clients, job_id, queue="train"):
        attempts.run(queue, lambda attempt: train(attempt, clients))
        return jobs.get(job_id)

    return take


@pytest.fixture
def parent(clients, first):
    """The current release, on the old base model."""
    return clients.registry.releases.get("t", first.result["release"])


@pytest.fixture
def rebased(jobs, newer, parent):
    """The jobs of a rebase: adapters by label, then what makes the candidate."""

    def begin(*, failed="leave_out", kept=(), **more):
        trained = {
            label: jobs.train(
                kind="adapter.train", label=label, dataset=label, evaluate_rows=2, base_model=newer.base_model
            )
            for label in MOVED
            if label not in kept
        }
        body = SELECTOR | {
            "selector": "light",
            "promote": False,
            "parent": parent.id,
            "base_model": newer.base_model,
            "rebase": {"jobs": trained, "kept": list(kept), "failed": failed},
        }
        return trained, jobs.train(**body | more)

    return begin


def test_a_trainer_leaves_a_job_of_another_base_model_to_its_trainer(clients, newer, jobs, run_on):
    job_id = jobs.train(
        kind="adapter.train", label=MOVED[0], dataset=MOVED[0], evaluate_rows=0, base_model=newer.base_model
    )
    left = run_on(clients, job_id)
    assert (left.state, left.queue) == (JobState.QUEUED, queue_on_base("train", newer.base_model))
    assert left.lost_leases == 0
    done = run_on(newer, job_id, left.queue)
    assert done.state is JobState.SUCCEEDED, done.error
    assert newer.registry.adapters.get("t", done.result["ref"]).base_model == newer.base_model


def test_an_adapter_keeps_what_trains_it_again(clients, jobs, run_on):
    job = run_on(clients, jobs.train(kind="adapter.train", label=MOVED[0], dataset=MOVED[0], evaluate_rows=2))
    report = clients.registry.adapters.get("t", job.result["ref"]).report
    again = parse_training(
        {"kind": "adapter.train", "label": MOVED[0], "dataset": report["dataset"]} | report["training"]
    )
    assert again == parse_training(job.body)


def test_a_rebase_makes_one_candidate_with_every_adapter_and_the_selector_on_the_new_base(
    clients, newer, jobs, rebased, run_on, parent
):
    trained, last = rebased()
    for job_id in trained.values():
        job = run_on(newer, job_id)
        assert job.state is JobState.SUCCEEDED, job.error
    job = run_on(newer, last)
    assert job.state is JobState.SUCCEEDED, job.error
    made = newer.registry.releases.get("t", job.result["release"])
    assert (made.parent, made.base_model, made.bases) == (parent.id, newer.base_model, {newer.base_model})
    assert set(made.labels) == set(MOVED)
    for label in MOVED:
        entry, old = made.labels[label], parent.labels[label]
        assert (entry.group, entry.instruction, entry.template) == (old.group, old.instruction, old.template)
        assert newer.registry.adapters.get("t", entry.ref).made_by == trained[label]
    assert made.report["rebase"] == {"kept": [], "left_out": []}
    assert made.report["before"] == {label: parent.accuracy_of[label] for label in MOVED}  # on the same rows


def test_the_selector_waits_for_the_adapters_and_takes_no_trainer_meanwhile(newer, jobs, rebased, run_on):
    trained, last = rebased()
    jobs.take(trained[MOVED[0]])
    jobs.take(trained[MOVED[1]])
    waiting = run_on(newer, last)
    assert waiting.state is JobState.QUEUED
    assert waiting.queue == "train"


def failed(jobs, ledger, job_id):
    error = {"code": "output_missing", "detail": "no output", "retryable": False}
    ledger.do(calls.finish(jobs.take(job_id), JobState.FAILED, error=error))


@pytest.mark.parametrize("choice", ["leave_out", "keep"])
def test_a_failed_label_does_not_stop_the_rest(newer, jobs, rebased, run_on, ledger, parent, clients, choice):
    background = [Row(input=row["input"]) for row in rows("travel.trips", 24)]
    newer.registry.datasets.add("t", "else", background)
    trained, last = rebased(failed=choice, background="else")
    failed(jobs, ledger, trained[MOVED[1]])
    run_on(newer, trained[MOVED[0]])
    job = run_on(newer, last)
    assert job.state is JobState.SUCCEEDED, job.error
    made = newer.registry.releases.get("t", job.result["release"])
    lacks = " ".join(made.verdict.reasons)
    if choice == "leave_out":
        assert (set(made.labels), made.report["rebase"]["left_out"]) == ({MOVED[0]}, [MOVED[1]])
        assert not made.verdict.passed
        assert MOVED[1] in lacks
    else:
        assert made.labels[MOVED[1]].adapter == parent.labels[MOVED[1]].adapter
        assert (made.base_of(MOVED[0]), made.base_of(MOVED[1])) == (newer.base_model, clients.base_model)
        assert made.report["rebase"] == {"kept": [MOVED[1]], "left_out": []}
        assert set(made.selected_labels) == set(MOVED)


def test_where_too_few_labels_are_left_the_rebase_fails_and_says_so(newer, jobs, rebased, run_on, ledger):
    trained, last = rebased()
    for job_id in trained.values():
        failed(jobs, ledger, job_id)
    job = run_on(newer, last)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "labels_too_few")
    assert ", ".join(sorted(MOVED)) in job.error["detail"]


def test_an_attempt_that_died_in_the_middle_goes_on_from_its_checkpoint_on_the_new_base(
    newer, jobs, rebased, run_on, ledger
):
    trained, last = rebased()

    class Killed(BaseException):
        pass

    def dies(job):
        context = attempt_at(job, ledger)
        emit = context.emit

        def die_at_a_checkpoint(kind, data):
            emit(kind, data)
            if data.get("stage") == "checkpoint":
                raise Killed

        context.emit = die_at_a_checkpoint
        with pytest.raises(Killed):
            train(context, newer)

    jobs.lose_after(trained[MOVED[0]], dies)
    resumed = []
    while not jobs.get(last).state.is_final:  # in whatever order the ledger gives them out
        run_on(newer, last)
    for job_id in trained.values():
        job = jobs.get(job_id)
        assert job.state is JobState.SUCCEEDED, job.error
        resumed.append(job.tries)
    assert resumed == [2, 1]
    assert jobs.get(last).state is JobState.SUCCEEDED
