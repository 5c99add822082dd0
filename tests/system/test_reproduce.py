"""A small grid reproduced through the running system: queued, measured, resumed."""

import csv
import json
from pathlib import Path

import pytest

from lab.reproduce import grid
from lab.reproduce.run import reproduce
from shared.errors import Conflict, Invalid
from tests.support.samples import WORDS, rows
from tests.support.tiny_model import save_tiny_model

YAML = """
title: Tiny
source: nowhere
labels: [bank.accounts, bank.cards, travel.trips]
overlapping: [bank.cards]
texts: [input]
jobs:
  selector.train: &first
    missing_adapters: allow
    selector: cascade
    min_accuracy: 0
    max_false_reject: 0
    labels: [bank.accounts, bank.cards]
    settings: &settings {epochs: 1, rank: 2, max_length: 400, learning_rate: 0.02}
  selector.add: {<<: *first, selector: keep, labels: [travel.trips], retention: 0.5}
  selector.balance: {hard: [bank.cards], easy: [travel.trips], selection: {rows_per_label: 4}, settings: *settings}
  selector.delete: {labels: [travel.trips], deleted_texts: forget, settings: *settings}
  adapter.train: {evaluate_rows: 0, settings: *settings}
conditions:
  - {id: both, show: {kind: cascade}, measure: [bank.accounts, bank.cards], paper: [0.9, 0.8, 1, null]}
  - {id: no encoder, job: {selector: light, selection: {rows_per_label: 4, embedder: sentence-transformers}}}
  - {id: added, parent: both, job: {kind: selector.add}}
  - {id: three, job: {selector: llm, labels: [bank.accounts, bank.cards, travel.trips]}}
  - {id: balanced, parent: three, job: {kind: selector.balance, retention: 0.1}}
  - {id: twin of three, job: {selector: llm, labels: [bank.accounts, bank.cards, travel.trips]}}
  - {id: gone, parent: twin of three, job: {kind: selector.delete}, measure: [bank.accounts, bank.cards]}
  - {id: first, job: {kind: adapter.train, label: bank.accounts}}
  - {id: second, job: {kind: adapter.train, label: bank.cards}}
  - id: answering
    adapters: [first, second]
    measure: &two [bank.accounts, bank.cards]
    job: {selector: light, missing_adapters: refuse}
  - {id: one model, measure: *two, job: {kind: comparison.train, labels: *two, settings: *settings}}
quick: {about: Nothing is left., texts: [input], conditions: [{id: both}]}
"""


@pytest.fixture
def tiny(system, tmp_path, monkeypatch):
    """Reproduce the tiny grid on the running system; answers the exit code."""
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(system.supervisor.settings.data_dir))
    monkeypatch.setattr(grid, "GRIDS", tmp_path)
    (tmp_path / "tiny.yaml").write_text(YAML)
    for label in WORDS:
        for part, count in (("train", 24), ("test", 6)):
            lines = [json.dumps(row) for row in rows(label, count, seed=part)]
            (tmp_path / f"{label}.{part}.jsonl").write_text("\n".join(lines))

    def run(base=system.supervisor.settings.base_model, **more):
        return reproduce("tiny", base, tmp_path, tmp_path / "out", **{"quick": False, "only": [], **more})

    return run


def jobs(system):
    return {job["id"]: job["state"] for job in system.client.get("/v1/training/jobs")["items"]}


def ours(tmp_path):
    with (tmp_path / "out" / "tiny.csv").open() as stream:
        return {(line["condition"], line["selector"], line["column"]): line for line in csv.DictReader(stream)}


@pytest.mark.slow
@pytest.mark.timeout(600)  # ten trainings, each in a process of its own
def test_conditions_become_jobs_and_a_second_run_repeats_only_what_failed(system, tiny, tmp_path, capsys):
    before = jobs(system)
    assert tiny() == 1  # the trainer has no sentence encoder
    assert "condition no encoder, input: encoder_missing" in capsys.readouterr().err.replace("\n", " ")
    first = {job: state for job, state in jobs(system).items() if job not in before}
    assert sorted(first.values()) == ["failed", *["succeeded"] * 9]
    found = ours(tmp_path)
    assert {part for condition, part, _ in found if condition == "both"} == {"llm", "light", "cascade"}
    assert found["both", "light", "accuracy"]["paper"] == "0.9"
    folder = Path(system.supervisor.settings.base_model)
    assert {line["base"] for line in found.values()} - {""} == {folder.name}  # not where it lies
    assert int(found["both", "llm", "accuracy"]["tokens_seen"]) > 0
    assert found["added", "light", "accuracy"]["rows"] == "18"
    assert {part for condition, part, _ in found if condition == "balanced"} == {"llm"}
    assert {part for condition, part, _ in found if condition == "gone"} == {"llm", "served"}
    assert found["gone", "llm", "travel.trips"]["ours"] == ""
    assert found["three", "llm", "accuracy"]["release"] == found["twin of three", "llm", "accuracy"]["release"]
    assert found["no encoder", "", "accuracy"]["status"] == "failed: encoder_missing"
    assert {part for condition, part, _ in found if condition == "answering"} == {"light", "oracle", "routed"}
    assert found["answering", "oracle", "bank.accounts"]["rows"] == "12"
    assert found["one model", "answers", "accuracy"]["ours"] != ""

    assert tiny() == 1
    second = {job: state for job, state in jobs(system).items() if job not in before and job not in first}
    assert list(second.values()) == ["failed"]  # asked for once more, because a person may have mended it
    assert ours(tmp_path) == found


@pytest.mark.slow
def test_a_run_takes_up_the_jobs_of_the_one_before_until_the_conditions_are_deleted(system, tiny, tmp_path):
    out = tmp_path / "out"
    tiny(only=["both"])
    known = jobs(system)
    (out / "conditions.jsonl").unlink()  # as where the run before was cut off
    assert tiny(only=["both"]) == 0
    assert jobs(system) == known
    assert ours(tmp_path)["added", "", "accuracy"]["status"] == "not run yet"

    (out / "conditions.jsonl").unlink()
    (out / "run.json").unlink()
    assert tiny(only=["both"]) == 0
    assert [state for job, state in jobs(system).items() if job not in known] == ["succeeded"]


def test_another_base_model_than_the_systems_is_refused(tiny, tmp_path):
    other = save_tiny_model(tmp_path / "other")
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text() + "\n")
    with pytest.raises(Conflict, match="SIGNALBOX_BASE_MODEL"):
        tiny(base=str(other))
    with pytest.raises(Invalid, match="neither a local folder nor a model"):
        tiny(base=str(tmp_path / "nowhere"))
