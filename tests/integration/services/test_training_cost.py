"""What a training costs: words come first, estimates by measured speeds, and above the limit somebody confirms."""

import json
import random
from dataclasses import replace

import pytest

from services.trainer.handlers import train
from services.trainer.speed import probe_speed
from shared.adapter_files import BaseShapes
from shared.contracts.jobs import JobState
from shared.contracts.rows import Row
from shared.contracts.training_cost import FACTOR, START_SECONDS, Speed, Work, estimate
from shared.contracts.training_settings import LoraSettings
from shared.ledger.keys import LedgerKey
from shared.registry.speeds import KEPT
from tests.support.samples import TRAINING
from tests.support.training import LABELS, SELECTOR

AUTO = {**SELECTOR, "selector": "auto", "promote": False}
ALIKE = {"labels": {LABELS[0]: "alike", LABELS[1]: "alike too"}}
ADAPTER = {"kind": "adapter.train", "label": LABELS[0], "dataset": LABELS[0], "evaluate_rows": 0}
SLOW = Speed(pace="float32", step_flops=1e6, flops_per_second=1.0)


@pytest.fixture
def no_speed(clients):
    """No training has been measured."""
    clients.store.delete(f"speeds/{clients.base_model}.json")


@pytest.fixture
def slow(clients, no_speed):
    """A machine on which every training takes years."""
    clients.registry.speeds.add(clients.base_model, SLOW)


@pytest.fixture
def alike(clients):
    """Two labels whose words are the same: no words tell them apart."""
    dice = random.Random(0)
    for name in ALIKE["labels"].values():
        rows = [Row(input=" ".join(dice.choices("abcdefg", k=8)), output="x") for _ in range(24)]
        clients.registry.datasets.add("t", name, rows)


@pytest.fixture
def run_within(clients, jobs, attempts):
    """Run a job on a trainer with this limit."""

    def to_end(limit, **body):
        job_id = jobs.train(**body)
        limited = replace(clients, confirm_training_seconds=limit)
        attempts.run("train", lambda attempt: train(attempt, limited))
        return jobs.get(job_id)

    return to_end


def told(ledger, job_id, stage):
    events = ledger.redis.xrange(LedgerKey.EVENTS.of(job_id))
    progress = [json.loads(event["data"]) for _, event in events if event["type"] == "progress"]
    return [data for data in progress if data["stage"] == stage]


def test_a_new_selector_is_of_words_alone_where_they_are_enough(clients, run, jobs, adapters, ledger):
    job = run(jobs.train(**AUTO))
    assert (job.state, job.result["selector"]) == (JobState.SUCCEEDED, "light")
    assert "words alone are right on 1.000" in job.result["kind_chosen"]
    assert not told(ledger, job.id, "training")
    assert clients.registry.releases.get("t", job.result["release"]).trained_as is None


def test_the_language_model_is_trained_where_words_are_not_enough_and_its_cost_is_told_first(
    clients, run_within, adapters, alike, ledger
):
    clients.registry.speeds.add(clients.base_model, Speed(pace="float32", step_flops=1e6, flops_per_second=1e9))
    job = run_within(3600, **{**AUTO, **ALIKE})
    assert (job.state, job.result["selector"]) == (JobState.SUCCEEDED, "cascade"), job.error
    (cost,) = told(ledger, job.id, "estimated")
    assert cost["estimate"]["steps"] == told(ledger, job.id, "training")[-1]["steps"]
    assert clients.registry.releases.get("t", job.result["release"]).trained_as.settings.rank == 2


def test_words_stay_alone_where_the_language_model_would_cost_more_than_the_limit(run_within, adapters, alike, slow):
    job = run_within(60, **{**AUTO, **ALIKE})
    assert (job.state, job.result["selector"]) == (JobState.SUCCEEDED, "light"), job.error
    assert any("--confirm-cost" in warning for warning in job.result["warnings"])
    confirmed = run_within(60, **{**AUTO, **ALIKE}, confirm_cost=True)
    assert confirmed.result["selector"] == "cascade"


def test_a_trainer_refuses_before_it_starts_what_the_api_could_not_estimate(run_within, slow, ledger):
    refused = run_within(60, **ADAPTER)
    assert (refused.state, refused.error["code"]) == (JobState.FAILED, "training_costly")
    assert not told(ledger, refused.id, "training")
    assert run_within(60, **ADAPTER, confirm_cost=True).state is JobState.SUCCEEDED


def test_an_update_that_names_no_settings_is_trained_as_its_release_was_or_gives_the_language_model_up(
    clients, jobs, first, attempts
):
    add = {"kind": "selector.add", "labels": {LABELS[2]: LABELS[2]}, "max_loss": 0.2, "min_accuracy": 0}

    def run(**body):
        job_id = jobs.new("train", "train", {**add, **body})
        attempts.run("train", lambda attempt: train(attempt, clients))
        job = jobs.get(job_id)
        assert job.state is JobState.SUCCEEDED, job.error
        return job.result, clients.registry.releases.get("t", job.result["release"])

    result, grown = run()
    before = clients.registry.releases.get("t", first.result["release"]).trained_as
    assert (result["selector"], grown.trained_as) == ("cascade", before)
    assert before.settings == LoraSettings(**TRAINING["settings"], precision="float32")
    result, grown = run(selector="light")
    assert (result["selector"], grown.trained_as) == ("light", None)
    assert set(grown.labels) == set(LABELS)


@pytest.mark.slow
def test_what_a_training_takes_is_within_the_stated_factor_of_its_estimate(clients, run, jobs, no_speed, ledger):
    """By its tokens: the tiny model's are letters, of which a text has four times as many as of words."""
    small = {"epochs": 2, "rank": 2, "max_length": 400, "batch_size": 4}
    assert run(jobs.train(**ADAPTER, settings=small)).state is JobState.SUCCEEDED
    (measured,) = clients.registry.speeds.of(clients.base_model)
    settings = LoraSettings(**{**small, "epochs": 6, "batch_size": 6})
    large = run(jobs.train(**ADAPTER, settings=settings.model_dump()))
    steps = [event for event in ledger.redis.xrange(LedgerKey.EVENTS.of(large.id)) if '"training"' in event[1]["data"]]
    first, last = (int(event[0].split("-")[0]) / 1000 for event in (steps[0], steps[-1]))
    took = (last - first) * len(steps) / (len(steps) - 1)
    work = Work(len(steps), json.loads(steps[-1][1]["data"])["tokens"])
    shapes = BaseShapes.from_folder(clients.base_folder).modules
    expected = estimate(shapes, settings, work, [measured]).seconds - START_SECONDS
    assert took / FACTOR < expected < took * FACTOR


def test_every_start_probes_a_speed_until_a_training_has_told_one(clients, no_speed):
    probe_speed(clients.registry, clients.base_folder, clients.base_model)
    probes = clients.registry.speeds.of(clients.base_model)
    assert {probe.pace for probe in probes} == {"float32", "bfloat16"}
    assert all(probe.is_probe and probe.flops_per_second > 0 for probe in probes)
    probe_speed(clients.registry, clients.base_folder, clients.base_model)
    assert len(clients.registry.speeds.of(clients.base_model)) == 2 * len(probes)
    clients.registry.speeds.add(clients.base_model, SLOW)
    known = clients.registry.speeds.of(clients.base_model)
    probe_speed(clients.registry, clients.base_folder, clients.base_model)
    assert clients.registry.speeds.of(clients.base_model) == known


def test_the_newest_speeds_are_kept(clients, no_speed):
    for number in range(KEPT + 3):
        clients.registry.speeds.add(clients.base_model, SLOW.model_copy(update={"flops_per_second": number + 1}))
    kept = clients.registry.speeds.of(clients.base_model)
    assert [speed.flops_per_second for speed in kept] == list(range(4, KEPT + 4))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_probe_of_the_real_model_is_within_the_stated_factor(real_folder, real_tokenizer, tmp_path, precision):
    """The estimate of a fresh machine, against a training of the real model."""
    import time

    from services.trainer.data.examples import InstructionRow
    from services.trainer.training.lora import train_adapter
    from services.trainer.training.probe import probed_speeds
    from shared.contracts.training_cost import Rows, work_of

    # Enough of them that the training takes longer than its start, which the estimate takes for 20 seconds everywhere.
    rows = [InstructionRow("Name the first word.", f"{number} " + "river " * 20, "river") for number in range(256)]
    settings = LoraSettings(epochs=1, precision=precision)
    shapes = BaseShapes.from_folder(real_folder).modules
    counted = Rows.of([row.instruction + row.input + row.output for row in rows])
    found = estimate(shapes, settings, work_of(settings, counted, Rows(0, 0)), list(probed_speeds(shapes)))
    started = time.monotonic()
    train_adapter(real_folder, real_tokenizer, rows, config=settings, work_dir=tmp_path)
    took = time.monotonic() - started
    assert took / FACTOR < found.seconds < took * FACTOR
