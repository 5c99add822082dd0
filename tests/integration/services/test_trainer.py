"""Training jobs whose store, trainer or release goes away under them."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.trainer.handlers import run_kind, train
from services.trainer.selector.inputs import inputs_of
from services.trainer.selector.plan import plan_of
from services.trainer.selector.updates import select_data
from shared.adapter_files import AdapterLimits
from shared.contracts.jobs import JobState
from shared.contracts.judged import report_at
from shared.contracts.rows import Row
from shared.errors import Conflict, Invalid, Unavailable
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.model.head import has_head
from shared.registry.store import S3Store
from shared.worker.leases import HeldJob
from tests.support.samples import TRAINING
from tests.support.tiny_encoder import save_tiny_encoder
from tests.support.training import LABELS, SELECTOR, add_adapter, attempt_at, context_of

ADD = {
    **SELECTOR,
    "kind": "selector.add",
    "selector": "keep",
    "labels": {"travel.trips": "travel.trips"},
    "max_loss": 0.2,
}


@pytest.fixture
def away(settings):
    """A store that does not answer."""
    return S3Store(settings.model_copy(update={"s3_url": "http://127.0.0.1:1"}))


def checkpoints_of(clients, job_id):
    return clients.store.keys(f"checkpoints/{job_id}/")


def plan(clients, job):
    context = context_of(job, clients)
    inputs = inputs_of(context)
    return plan_of(context, inputs, select_data(context, inputs))


def test_a_checkpoint_that_cannot_be_stored_does_not_stop_the_training(clients, jobs, away, tmp_path):
    job = jobs.take(jobs.train(kind="adapter.train", label="bank.cards", dataset="bank.cards"))
    callbacks = context_of(job, replace(clients, store=away)).callbacks()
    callbacks.on_checkpoint(tmp_path, 2)
    assert checkpoints_of(clients, job.id) == []


def test_whatever_else_the_trainer_stores_waits_for_the_store(clients, jobs, away):
    job = jobs.take(jobs.train(kind="adapter.train", label="bank.cards", dataset="bank.cards"))
    waiting = replace(clients, store=away, store_patience_seconds=3600).waiting(held := HeldJob(job))
    held.stop("drain")  # otherwise this would take an hour
    with pytest.raises(Exception, match="was stopped"):
        waiting.registry.datasets.put_rows("t", [Row(input="x")])
    with pytest.raises(Unavailable):
        replace(clients, store=away).waiting(HeldJob(job)).registry.datasets.put_rows("t", [Row(input="x")])


@pytest.fixture
def little_memory():
    """This process may map 128 MiB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**27, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_training_that_does_not_fit_in_memory_says_what_to_lower_and_the_trainer_goes_on(clients, jobs, run, request):
    text = "a long story " * 400
    clients.registry.datasets.add("t", "long", [Row(input=f"{n} {text}", output="x") for n in range(256)])
    body = {"kind": "adapter.train", "label": LABELS[0], "evaluate_rows": 0}
    settings = TRAINING["settings"] | {"batch_size": 256, "max_length": 4096}
    request.getfixturevalue("little_memory")
    failed = run(jobs.train(**body, dataset="long", settings=settings))
    assert failed.error["code"] == "out_of_memory"
    assert all(
        name in failed.error["detail"] for name in ("batch_size", "max_length", "gradient_checkpointing", "qlora")
    )
    assert run(jobs.train(**body, dataset=LABELS[0])).state is JobState.SUCCEEDED


def test_a_card_that_is_too_small_for_what_judges_a_training_ends_its_job_with_what_to_change(jobs, run, monkeypatch):
    from transformers import GenerationMixin

    def generate(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(GenerationMixin, "generate", generate)
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": LABELS[0], "evaluate_rows": 4}
    failed = run(jobs.train(**body))
    assert (failed.state, failed.error["code"]) == (JobState.FAILED, "out_of_memory")
    assert "max_length" in failed.error["detail"]


def test_an_adapter_job_learns_from_the_rows_of_its_label_and_leaves_nothing_behind(clients, jobs, run, store):
    rows = [Row(input=f"row {n}", output="x", label=LABELS[n % 2]) for n in range(16)]
    clients.registry.datasets.add("t", "mixed", rows)
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": "mixed", "evaluate_rows": 0}
    job_id = jobs.train(**body)
    left = clients.work_dir / f"{job_id}-0"
    left.mkdir(parents=True)
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    assert 4 <= job.result["train_rows"] <= 8
    assert checkpoints_of(clients, job_id) == []
    assert not left.exists()


def test_a_row_whose_answer_is_too_long_is_named_by_its_line_in_the_data_set(clients, jobs, run):
    rows = [Row(input=f"text {n}", output="x" * (1000 if n == 6 else 1)) for n in range(9)]
    clients.registry.datasets.add("t", "long", rows)
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": "long", "validation": LABELS[0]}
    job = run(jobs.train(**body))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "answer_too_long")
    assert "line 7 (blank lines not counted, input 'text 6'): its answer takes" in job.error["detail"]
    assert "raise settings.max_length" in job.error["detail"]


@pytest.mark.parametrize(
    ("policy", "trained", "what"),
    [("cut", 9, "their ends are cut off"), ("leave_out", 8, "these rows are left out")],
)
def test_answers_that_are_too_long_are_cut_or_left_out_and_counted(clients, jobs, run, ledger, policy, trained, what):
    rows = [Row(input=f"text {n}", output="x" * (1000 if n == 6 else 1)) for n in range(9)]
    clients.registry.datasets.add("t", "long", rows)
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": "long", "validation": LABELS[0], "evaluate_rows": 0}
    job = run(jobs.train(**body, long_answers=policy))
    assert (job.state, job.result["train_rows"]) == (JobState.SUCCEEDED, trained), job.error
    assert job.result["warnings"][0] == f"bank.accounts: 1 of 9 answers do not fit into max_length 400; {what}"
    assert told(ledger, job.id, "data_checked")[0]["warnings"] == job.result["warnings"]


def talk(number, question="And now?"):
    """A row of two questions and their answers."""
    contents = [f"text {number}", "one", question, "two"]
    roles = ["user", "assistant"] * 2
    return Row.model_validate({"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]})


def test_an_adapter_learns_from_conversations_and_is_judged_on_their_last_answers(clients, jobs, run):
    clients.registry.datasets.add("t", "talks", [talk(n, f"And {n}?") for n in range(12)])
    job = run(jobs.train(kind="adapter.train", label=LABELS[0], dataset="talks", evaluate_rows=2))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["train_rows"] + job.result["validation_rows"] <= 12
    assert job.result["validation_rows"] in (1, 2)


def test_a_conversation_that_is_too_long_is_named_by_its_line_in_the_data_set(clients, jobs, run):
    clients.registry.datasets.add("t", "talks", [talk(n, "And?" * (500 if n == 6 else 1)) for n in range(9)])
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": "talks", "validation": LABELS[0]}
    job = run(jobs.train(**body))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "answer_too_long")
    assert "line 7 (blank lines not counted" in job.error["detail"]
    assert "its conversation takes" in job.error["detail"]


def test_a_comparison_leaves_out_answers_that_are_too_long_too(clients, jobs, run):
    rows = [Row(input=f"text {n}", output="x" * (1000 if n == 6 else 1)) for n in range(9)]
    clients.registry.datasets.add("t", "long", rows)
    body = {"kind": "comparison.train", "labels": {LABELS[0]: "long"}, "evaluation": {LABELS[0]: LABELS[0]}}
    job = run(jobs.train(**body, **TRAINING, long_answers="leave_out", evaluate_rows=1))
    assert (job.state, job.result["train_rows"]) == (JobState.SUCCEEDED, {LABELS[0]: 8}), job.error
    assert "1 of 9 answers do not fit into max_length" in job.result["warnings"][0]


def test_an_adapter_above_the_operators_rank_is_not_trained(clients, jobs, attempts):
    limited = replace(clients, adapter_limits=AdapterLimits(max_rank=2))
    job_id = jobs.train(kind="adapter.train", label=LABELS[0], dataset=LABELS[0], settings={"rank": 3})
    attempts.run("train", lambda attempt: train(attempt, limited))
    job = jobs.get(job_id)
    assert (job.state, job.error["code"]) == (JobState.FAILED, "adapter_rank_too_large")


def test_where_every_answer_is_too_long_nothing_is_left_to_train_on(clients, jobs, run):
    clients.registry.datasets.add("t", "long", [Row(input=f"text {n}", output="x" * 1000) for n in range(9)])
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": "long", "validation": LABELS[0]}
    job = run(jobs.train(**body, long_answers="leave_out"))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "answer_too_long")
    assert "no row remains" in job.error["detail"]


def test_a_text_with_different_answers_is_trained_with_a_warning(clients, jobs, run, ledger):
    rows = [Row(input="same" if n < 5 else f"text {n}", output=f"answer {n}") for n in range(12)]
    clients.registry.datasets.add("t", "unclear", rows)
    body = {"dataset": "unclear", "validation": LABELS[0], "evaluate_rows": 0}
    job = run(jobs.train(kind="adapter.train", label=LABELS[0], **body))
    assert job.result["warnings"] == [
        "bank.accounts: 1 text has several different answers, 'same' 5 of them; an adapter learns one of them by chance"
    ]
    assert told(ledger, job.id, "data_checked")[0]["warnings"] == job.result["warnings"]


def test_a_job_of_several_processes_tells_of_its_steps_and_stores_checkpoints(clients, jobs, ledger, attempts):
    several = replace(clients, training_launcher="torchrun --nproc-per-node 2 --standalone")
    settings = TRAINING["settings"] | {"batch_size": 2, "epochs": 2}
    body = {"kind": "adapter.train", "label": LABELS[0], "dataset": LABELS[0], "evaluate_rows": 0}
    job_id = jobs.train(**body, settings=settings)
    attempts.run("train", lambda attempt: train(attempt, several))
    job = jobs.get(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    told = [
        json.loads(e["data"]) for _, e in ledger.redis.xrange(LedgerKey.EVENTS.of(job_id)) if e["type"] == "progress"
    ]
    steps = [said["step"] for said in told if said["stage"] == "training"]
    assert steps[-1] == -(-2 * job.result["train_rows"] // 4)
    assert next(said["step"] for said in told if said["stage"] == "checkpoint") == 2
    assert checkpoints_of(clients, job_id) == []


def test_a_data_set_with_few_rows_of_the_label_says_so(clients, jobs):
    clients.registry.datasets.add("t", "few", [Row(input=str(n), label=LABELS[n > 2]) for n in range(9)])
    job = jobs.take(jobs.train(kind="adapter.train", label=LABELS[0], dataset="few"))
    with pytest.raises(Invalid, match="3 rows that carry this label or none"):
        context_of(job, clients).rows("few", LABELS[0])
    assert len(context_of(job, clients).rows("few", LABELS[1])) == 6


@pytest.mark.parametrize(("reason", "state"), [("cancel", JobState.CANCELLED), ("drain", JobState.QUEUED)])
def test_a_stop_ends_the_choice_of_rows_and_only_a_given_back_job_keeps_what_it_began_with(
    clients, jobs, adapters, attempts, reason, state
):
    job_id = jobs.train(**SELECTOR)

    def stopped(attempt):
        attempt.lease.stop(reason)
        train(attempt, clients)

    attempts.run("train", stopped)
    assert jobs.get(job_id).state is state
    assert len(checkpoints_of(clients, job_id)) == (reason == "drain")


def test_only_the_attempt_that_ends_a_job_drops_its_checkpoints(clients, jobs, run):
    job_id = jobs.train(kind="adapter.train", label="bank.cards", dataset="missing")
    old = jobs.lose(job_id)
    clients.store.put(f"checkpoints/{job_id}/000000002.tar", b"x")
    train(attempt_at(old, clients.ledger), clients)
    assert len(checkpoints_of(clients, job_id)) == 1
    assert run(job_id).error["code"] == "dataset_not_found"
    assert checkpoints_of(clients, job_id) == []


def test_a_trainer_killed_after_it_promoted_answers_with_the_release_it_made(clients, jobs, run, first):
    job_id = jobs.train(**ADD)
    killed = jobs.lose_after(job_id, lambda job: run_kind(context_of(job, clients)))
    if not killed["promoted"]:  # the gate may hold a tiny random model back; a person promotes it
        clients.registry.releases.promote("t", killed["release"], force=True)
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    assert (job.result["release"], job.result["promoted"]) == (killed["release"], True)
    assert job.result["per_label"] == killed["per_label"]
    assert len(clients.registry.releases.list_all("t")) == 2


def test_a_resumed_attempt_works_on_what_the_first_one_began_with(clients, jobs, adapters, tmp_path):
    job_id = jobs.train(**SELECTOR)
    begun = plan(clients, jobs.lose(job_id))
    add_adapter(clients, "bank.cards", tmp_path / "newer")
    resumed = plan(clients, jobs.take(job_id))
    assert resumed == begun
    assert resumed.adapters["bank.cards"] == "bank.cards@1"


def test_a_selector_waits_in_its_queue_for_an_adapter_that_is_being_trained(clients, jobs, run, tmp_path, ledger):
    add_adapter(clients, "bank.accounts", tmp_path / "accounts")
    coming = jobs.train(kind="adapter.train", label="bank.cards", dataset="bank.cards", evaluate_rows=0)
    job_id = jobs.train(**SELECTOR)
    held = jobs.take(coming)
    waiting = run(job_id)
    assert (waiting.state, waiting.lost_leases) == (JobState.QUEUED, 0)
    assert ledger.redis.smembers(LedgerKey.BLOCKERS.of(job_id)) == {coming}
    ledger.do(calls.release_unfinished(held))
    assert run(coming).state is JobState.SUCCEEDED
    assert run(job_id).state is JobState.SUCCEEDED
    told = [
        json.loads(e["data"]) for _, e in ledger.redis.xrange(LedgerKey.EVENTS.of(job_id)) if e["type"] == "progress"
    ]
    stages = [data["stage"] for data in told]
    assert "training" not in stages[stages.index("waiting_for_adapters") :]  # it goes on with the finished weights


def test_a_label_whose_adapter_nobody_trains_fails_its_selector_before_any_training(clients, jobs, run, ledger):
    job_id = jobs.train(**SELECTOR)
    assert run(job_id).error["code"] == "adapter_not_found"
    assert [e for _, e in ledger.redis.xrange(LedgerKey.EVENTS.of(job_id)) if e["type"] == "progress"] == []


def test_a_candidate_without_adapters_is_measured_and_updated_but_never_promoted(clients, jobs, run):
    body = {**SELECTOR, "selector": "light", "missing_adapters": "allow"}
    job = run(jobs.train(**body))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["promoted"] is False
    assert "without adapters of bank.accounts, bank.cards" in job.result["why"]
    with pytest.raises(Conflict, match="without adapters"):
        clients.registry.releases.promote("t", job.result["release"], force=True)
    added = run(jobs.train(**{**ADD, "promote": False, "missing_adapters": "allow"}, parent=job.result["release"]))
    assert added.state is JobState.SUCCEEDED, added.error
    labels = clients.registry.releases.get("t", added.result["release"]).labels
    assert {label: entry.adapter for label, entry in labels.items()} == dict.fromkeys(LABELS, "")


def test_a_candidate_that_may_lack_adapters_takes_those_there_are(clients, jobs, run, tmp_path):
    digest = add_adapter(clients, "bank.cards", tmp_path / "cards").digest
    job = run(jobs.train(**{**SELECTOR, "selector": "light", "missing_adapters": "allow"}))
    labels = clients.registry.releases.get("t", job.result["release"]).labels
    assert (labels["bank.cards"].adapter, labels["bank.accounts"].adapter) == (digest, "")


def test_labels_are_added_to_the_release_that_the_job_names(clients, jobs, first):
    old = clients.registry.releases.get("t", first.result["release"])
    newer = clients.registry.releases.add(old.model_copy(update={"parent": old.id, "made_by": "somebody"}))
    clients.registry.releases.promote("t", newer)
    job = jobs.take(jobs.train(**ADD, parent=old.id))
    assert plan(clients, job).parent == old


def test_a_release_keeps_the_rows_that_it_was_judged_on(clients, first):
    release = clients.registry.releases.get("t", first.result["release"])
    rows = clients.registry.datasets.judged_rows(release)
    report = report_at(rows, release.selector.threshold)
    same = ("n", "accuracy", "per_label", "confusion", "calibration")
    assert [report[name] for name in same] == [release.report[name] for name in same]


def test_a_selector_trained_anew_is_judged_against_the_one_it_would_replace(clients, jobs, run, first):
    again = run(jobs.train(**{**SELECTOR, "min_accuracy": 1}))
    release = clients.registry.releases.get("t", again.result["release"])
    assert release.parent == first.result["release"]
    assert release.report["before"] == first.result["per_label"]  # the same rows, the same selector
    assert set(release.report["parts"]) == {"llm", "light", "cascade"}
    assert release.verdict.reasons == ("2 kept labels hold and 0 new labels reach the mark.",)


def test_labels_that_go_are_a_loss_unless_the_job_drops_them_by_name(clients, jobs, run, first):
    anew = {**SELECTOR, "selector": "light", "missing_adapters": "allow", "promote": False}
    anew["labels"] = {label: label for label in ("bank.cards", "travel.trips")}
    silent = run(jobs.train(**anew)).result
    assert any("bank.accounts of the release before is gone" in why for why in silent["verdict"]["reasons"])
    assert not silent["verdict"]["passed"]
    named = run(jobs.train(**anew, drop=["bank.accounts"])).result
    assert not any("is gone" in why for why in named["verdict"]["reasons"])


def test_the_log_of_promotions_names_the_key_behind_a_job(clients, jobs, run, adapters):
    job = run(jobs.train(**{**SELECTOR, "selector": "light"}, key="key_of_ann"))
    (move,) = clients.registry.releases.promotions("t")
    assert (move["by"], move["key"]) == (job.id, "key_of_ann")


@pytest.mark.slow
def test_a_job_says_how_much_a_kept_label_may_lose(clients, jobs, run, first):
    made = run(jobs.train(**{**ADD, "promote": False})).result["per_label"]
    old = clients.registry.releases.get("t", first.result["release"])
    better = {"per_label": {label: accuracy + 0.1 for label, accuracy in made.items() if label in old.labels}}
    parent = clients.registry.releases.add(old.model_copy(update={"report": better}))
    for max_loss, passes in ((0.05, False), (0.15, True)):
        job = run(jobs.train(**{**ADD, "promote": False, "parent": parent, "max_loss": max_loss}))
        assert job.result["per_label"] == made
        assert job.result["verdict"]["passed"] is passes


@pytest.mark.parametrize(
    ("asked", "max_length", "has"),
    [
        pytest.param("names", 300, False, marks=pytest.mark.slow),
        ("auto", 300, True),
        pytest.param("head", 300, True, marks=pytest.mark.slow),
        pytest.param("auto", 600, False, marks=pytest.mark.slow),
    ],
)
def test_the_language_model_answers_as_the_job_asks_and_a_grown_selector_as_before(
    clients, jobs, run, adapters, asked, max_length, has
):
    """The tiny model's tokenizer knows letters alone: the prompt of two labels is 175 tokens long."""
    settings = {**TRAINING["settings"], "max_length": max_length}
    made = run(jobs.train(**{**SELECTOR, "settings": settings}, readout=asked))
    grown = run(jobs.train(**{**ADD, "promote": False}, parent=made.result["release"]))

    for job in (made, grown):
        weights = clients.registry.weights.fetch(clients.registry.releases.get("t", job.result["release"]).selector.llm)
        assert has_head(weights) is has
    assert len(grown.result["per_label"]) == 3


def told(ledger, job_id, stage):
    """What a job's readers heard of a stage."""
    events = [
        json.loads(e["data"]) for _, e in ledger.redis.xrange(LedgerKey.EVENTS.of(job_id)) if e["type"] == "progress"
    ]
    return [data for data in events if data["stage"] == stage]


def test_what_is_wrong_with_the_data_is_told_before_the_training_and_kept_in_the_report(
    clients, jobs, run, adapters, ledger
):
    same = [Row(input=text, output="Yes") for text in ("both", "Both ", "\u200b", *"abcdef")]
    other = [Row(input=text, output=text) for text in ("both", *"ghijkl")]
    for label, own in ((LABELS[0], same), (LABELS[1], other)):
        clients.registry.datasets.add("t", label, own)

    job = run(jobs.train(**SELECTOR))

    assert job.state is JobState.SUCCEEDED, job.error
    warnings = job.result["warnings"]
    assert f"{LABELS[0]}: 1 empty inputs are left out" in warnings
    assert f"{LABELS[0]}: all 9 rows have the answer 'Yes'; this task cannot be learnt" in warnings
    of_data = [warning for warning in warnings if "validation" not in warning]
    assert of_data[-1] == f"1 text stands under both {LABELS[0]} and {LABELS[1]}; no selector can tell them apart"
    assert [heard["warnings"] for heard in told(ledger, job.id, "data_selected")] == [of_data]
    report = clients.registry.releases.get("t", job.result["release"]).report
    assert report["data"]["overlaps"][0]["texts"] == 1
    assert report["data"]["labels"][LABELS[0]]["rows"] == 9


def test_what_few_validation_rows_show_is_told_with_its_interval_and_thresholds_come_from_more_rows(
    clients, jobs, run, adapters, ledger
):
    job = run(jobs.train(**SELECTOR | {"selector": "light"}))

    assert job.state is JobState.SUCCEEDED, job.error
    report = clients.registry.releases.get("t", job.result["release"]).report
    assert any(f"{LABELS[0]}: an accuracy of" in warning for warning in job.result["warnings"])
    low, high = job.result["accuracy_interval"]
    assert low < report["accuracy"] <= high
    assert high - low > 0.2
    assert set(report["intervals"]["per_label"]) == set(report["per_label"])
    assert sum(cell["n"] for cell in report["calibration"]) == report["n"]
    assert len(told(ledger, job.id, "cross_fitting")) == 1


def test_validation_rows_that_repeat_training_rows_are_named_where_an_encoder_is_there(
    clients, jobs, adapters, attempts, ledger, tmp_path
):
    with_encoder = replace(clients, encoder_folder=save_tiny_encoder(tmp_path))

    job_id = jobs.train(**SELECTOR | {"selector": "light"})
    attempts.run("train", lambda attempt: train(attempt, with_encoder))

    # The tiny encoder is random and tells nothing apart.
    assert any("nearly repeat a training row" in warning for warning in jobs.get(job_id).result["warnings"])


def test_an_encoder_that_cannot_be_read_stops_no_job_that_did_not_ask_for_it(
    clients, jobs, adapters, attempts, tmp_path
):
    broken = replace(clients, encoder_folder=tmp_path / "none")

    job_id = jobs.train(**SELECTOR | {"selector": "light"})
    attempts.run("train", lambda attempt: train(attempt, broken))

    assert any("were not compared with training rows" in warning for warning in jobs.get(job_id).result["warnings"])


def test_a_new_label_that_shares_texts_with_an_old_one_says_so(clients, jobs, run, first):
    old = clients.registry.datasets.rows("t", LABELS[0])
    clients.registry.datasets.add("t", "travel.trips", [*clients.registry.datasets.rows("t", "travel.trips"), *old[:3]])

    warnings = run(jobs.train(**{**ADD, "promote": False})).result["warnings"]

    assert any("under both bank.accounts and travel.trips" in warning for warning in warnings)


def test_a_data_set_whose_inputs_are_all_empty_is_refused(clients, jobs, run, adapters):
    clients.registry.datasets.add("t", LABELS[0], [Row(input="\u200b" * n) for n in range(1, 9)])

    assert run(jobs.train(**SELECTOR)).error["code"] == "inputs_empty"


def test_an_adapters_rows_with_one_answer_alone_are_named(clients, jobs, run, ledger):
    clients.registry.datasets.add("t", "yes", [Row(input=f"row {n}", output="Yes") for n in range(12)])

    job = run(jobs.train(kind="adapter.train", label="bank.cards", dataset="yes", evaluate_rows=0))

    assert job.result["warnings"][0].endswith("have the answer 'Yes'; this task cannot be learnt")
    assert told(ledger, job.id, "data_checked")[0]["warnings"] == job.result["warnings"]


@pytest.mark.parametrize(
    ("selection", "code"),
    [({"embedder": "sentence-transformers"}, "encoder_missing"),
     ({"embedder": "hidden-state", "hidden_layer": 9}, "hidden_layer_unknown")],
    ids=str,
)  # fmt: skip
def test_an_embedder_that_is_not_there_ends_the_job_with_its_reason(clients, jobs, run, adapters, selection, code):
    assert run(jobs.train(**SELECTOR, selection=selection)).error["code"] == code


def test_a_job_chooses_its_embedder_distance_and_clustering(clients, jobs, run, adapters):
    selection = {"rows_per_label": 5, "embedder": "hidden-state", "distance": "cos", "clustering": "paper-code"}

    job = run(jobs.train(**SELECTOR, selection=selection))

    report = clients.registry.releases.get("t", job.result["release"]).report
    assert [counts["chosen"] for counts in report["data"]["labels"].values()] == [5, 5]
    assert [warning for warning in report["warnings"] if "validation rows" not in warning] == []


@pytest.mark.parametrize("model", ["multi-task-lora", "moe-lora"])
def test_a_comparison_model_is_measured_label_by_label_and_leaves_nothing_behind(clients, jobs, run, model):
    body = {"kind": "comparison.train", "model": model, "labels": {label: label for label in LABELS[:2]}, **TRAINING}
    job_id = jobs.train(**body, evaluation={LABELS[0]: LABELS[0]}, evaluate_rows=5)
    job = run(job_id)
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result["model"] == model
    assert job.result["validation_rows"][LABELS[0]] == 5
    assert job.result["train_rows"][LABELS[0]] == 24
    assert job.result["train_rows"][LABELS[1]] < 24
    assert job.result["exact_match"].keys() == job.result["score"].keys() == set(LABELS[:2])
    assert set(job.result["measure"].values()) <= {"exact_match", "rouge_l_f1"}
    assert checkpoints_of(clients, job_id) == []
