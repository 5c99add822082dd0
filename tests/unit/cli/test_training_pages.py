"""What the command line says of a training that has ended."""

import pytest

from services.cli.training_pages import accuracy_of, has_page, page
from shared.contracts.intervals import share_interval

SELECTOR = {
    "state": "succeeded",
    "trains": {"kind": "selector.train", "labels": ["bank.cards", "bank.loans"]},
    "result": {
        "release": "rel_1",
        "promoted": False,
        "why": "promotion was not asked for",
        "accuracy": 0.9,
        "accuracy_interval": [0.7, 0.97],
        "per_label": {"bank.cards": 1.0, "bank.loans": 0.8, "none.none": 0.5},
        "selector": "light",
        "threshold": 0.4216,
        "verdict": {"passed": True, "reasons": []},
        "warnings": [f"bank.loans: few rows [{number}]" for number in range(12)],
    },
}
ADAPTER = {
    "state": "succeeded",
    "trains": {"kind": "adapter.train", "labels": ["support"]},
    "result": {"adapter": "a" * 64, "ref": "support@2", "label": "support", "train_rows": 40, "warnings": []},
}


def with_result(**changes):
    return SELECTOR | {"result": SELECTOR["result"] | changes}


def shown(capsys, job):
    page(job)
    out, err = capsys.readouterr()
    assert "{" not in out
    return dict(line.split("\t") for line in out.splitlines()), " ".join(err.split())


def test_a_selectors_training_is_a_page_of_facts_with_its_warnings_and_the_next_command(capsys):
    facts, said = shown(capsys, SELECTOR)
    assert facts == {
        "trained": "selector.train",
        "labels": "bank.cards, bank.loans",
        "selector": "light",
        "accuracy": "0.900 (in truth 0.70 to 0.97)",
        "worst labels": "none.none 0.500, bank.loans 0.800",
        "threshold": "0.422",
        "gate": "passed",
        "release": "rel_1",
        "promoted": "no: promotion was not asked for",
    }
    assert "warning: bank.loans: few rows [9] and 2 more warnings: --json has all" in said
    assert said.endswith("`signalbox releases promote rel_1` makes it current")


@pytest.mark.parametrize(
    ("changes", "promoted", "gate", "says"),
    [
        ({"promoted": True, "why": "the gate passed"}, "yes: the gate passed", "passed", "`signalbox route try TEXT`"),
        (
            {"verdict": {"passed": False, "reasons": ["One.", "Two."]}},
            "no: promotion was not asked for",
            "One.; Two.",
            "`signalbox releases promote rel_1 --force` overrules the gate",
        ),
    ],
)
def test_the_next_command_follows_the_gate(capsys, changes, promoted, gate, says):
    facts, said = shown(capsys, with_result(**changes))
    assert (facts["promoted"], facts["gate"]) == (promoted, gate)
    assert says in said


def test_an_adapters_training_names_its_version_and_how_it_is_served(capsys):
    facts, said = shown(capsys, ADAPTER)
    assert (facts["labels"], facts["ref"], facts["train_rows"]) == ("support", "support@2", "40")
    assert "`signalbox releases edit --add support=support@2 --promote` serves it" in said


def test_a_training_that_failed_or_is_of_another_kind_has_no_page():
    assert has_page(SELECTOR)
    assert has_page(ADAPTER)
    assert not has_page(SELECTOR | {"state": "failed", "result": None})
    assert not has_page({"state": "succeeded", "result": {"model": "moe-lora", "train_rows": {}}})


@pytest.mark.parametrize(
    ("answers", "accuracy", "says"),
    [
        ([True] * 8, 1.0, "1.000 (in truth 0.68 to 1.00)"),
        ([False] * 2, 0.0, "0.000 (in truth 0.00 to 0.66)"),
        ([], 0.0, "not known: no example was left to measure it"),
    ],
)
def test_without_a_row_no_accuracy_is_claimed(answers, accuracy, says):
    assert accuracy_of({"accuracy": accuracy, "accuracy_interval": list(share_interval(answers))}) == says


def test_a_review_is_a_page_of_what_changed_and_what_is_unknown(capsys):
    result = {
        "release": "rel_1", "rows": 400, "windows": 4, "reference_rows": 1000, "reference": "traffic",
        "rejected": 0.2, "rejected_before": 0.01, "notes": ["a note"],
        "changes": [{"kind": "rejection", "since": "2026-01-01", "remedy": "add"}],
        "tasks": [{"name": "oil-change", "texts": 60, "terms": ["oil", "car"]}],
    }  # fmt: skip
    facts, said = shown(capsys, {"state": "succeeded", "result": result})
    assert facts["requests"] == "400 in 4 windows"
    assert facts["compared with"] == "1000 of traffic"
    assert facts["rejected"] == "0.200, before 0.010"
    assert facts["changes"] == "rejection since 2026-01-01: add"
    assert facts["unknown tasks"] == "oil-change (60 texts: oil, car)"
    assert "warning: a note" in said
    empty = {**result, "windows": 0, "changes": [], "tasks": []}
    assert shown(capsys, {"state": "succeeded", "result": empty})[0]["changes"] == "none"
