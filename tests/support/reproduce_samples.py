"""A small grid, and outcomes of its conditions."""

from lab.reproduce.grid import cases_of, parse_grid
from lab.reproduce.results_store import Measured, Outcome, Provenance
from shared.contracts.training import parse_training

YAML = """
title: A table
source: section 5
notes: [One note.]
labels: [fin.sa, med.ie]
overlapping: [med.ie]
texts: [input, instruction+input]
jobs:
  selector.train: {selector: cascade, labels: [fin.sa, med.ie], settings: {rank: 4, epochs: 5}}
  selector.delete: {labels: [med.ie], settings: {epochs: 1}}
conditions:
  - {id: "1", show: {distance: L2}, paper: [0.9, 0.95, null]}
  - {id: "2", show: {distance: COS}, job: {selection: {distance: cos}, settings: {rank: 8}}}
  - {id: gone, show: {ratio: 0.1}, parent: "1", job: {kind: selector.delete, retention: 0.1}, measure: [fin.sa]}
  - {id: adapter, texts: [input], job: {kind: adapter.train, label: fin.sa}}
  - {id: answering, texts: [input], adapters: [adapter]}
  - {id: theirs, texts: [input], job: {kind: comparison.train, labels: [fin.sa, med.ie]}, paper: [0.6, 0.5, 0.7]}
quick:
  about: One epoch.
  texts: [input]
  test_rows: 2
  train_rows: 3
  jobs: {selector.train: {settings: {epochs: 1}}}
  conditions: [{id: "1"}, {id: "2", job: {selector: light}}, {id: adapter}, {id: theirs}]
"""
GRID = parse_grid(YAML, "sample")


def case_of(condition, text="input", *, quick=False):
    return next(case for case in cases_of(GRID, quick=quick) if case.name == (condition, text))


def measured(accuracy, **per_label):
    confusion = {label: {label: 1} for label in per_label}
    return Measured(accuracy=accuracy, n=20, clear=accuracy, overlapping=None, per_label=per_label, confusion=confusion)


def outcome_of(condition="1", text="input", **changes):
    body = {"kind": "selector.train", "labels": {"fin.sa": "ds_1", "med.ie": "ds_2"}}
    stated = {
        "table": "sample",
        "condition": condition,
        "text": text,
        "quick": False,
        "base": "smollm2",
        "base_id": "a82e",
        "job": "job_1",
        "release": "rel_1",
        "body": parse_training(body).model_dump(mode="json"),
        "measured": {
            "llm": measured(0.8125, **{"fin.sa": 0.75, "med.ie": 0.875}),
            "light": measured(0.5, **{"fin.sa": 0.4, "med.ie": 0.6}),
        },
        "chosen": {"fin.sa": 100, "med.ie": 99},
        "warnings": ["fin.sa: 3 empty inputs are left out"],
        "tokens": 12345,
        "device": "cpu",
        "seconds": 61.5,
        "provenance": Provenance(machine="a machine", versions={"torch": "2"}, commit="abc1234", date="2026-01-01"),
    }
    return Outcome(**{**stated, **changes})
