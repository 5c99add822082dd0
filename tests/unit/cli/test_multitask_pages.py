"""What came of jobs on several tasks is a table with its reasons, and the command that helps next."""

from services.cli.multitask_pages import has_page, page

PLAN = {
    "groups": {"classification": ["bank.cards"]},
    "tasks": {
        "bank.cards": {
            "rows": 40, "group": "classification", "kind": "classification", "input": "single", "output": "binary",
            "resource": "low", "reasons": ["classification: 2 different answers"],
            "resource_reason": "low: its validation loss rises in epoch 2",
        }
    },
    "warnings": ["a warning"],
}  # fmt: skip
TRAINED = {
    "adapter": "a" * 64, "refs": {"bank.cards": "bank.cards@4"}, "prefixes": {"bank.cards": "Task: bank.cards"},
    "stages": [{"stage": "stage-2", "steps": 8, "sampler": "class"}], "exact_match": {"bank.cards": 0.5},
}  # fmt: skip
PROPOSED = {
    "tasks": {
        "bank.cards": {
            "rows": 12, "single": [0.5, 0.2, 0.8], "shared": [0.75, 0.5, 0.9], "difference": [0.25, -0.1, 0.5],
            "ratio": 1.5, "qualified": True,
        }
    },
    "qualified_labels": ["bank.cards"], "overhead": 1.0, "release": "rel_1", "notes": ["decided by the point estimate"],
    "slots_before": 3, "slots_after": 2, "bytes_before": 3 << 20, "bytes_after": 2 << 20,
}  # fmt: skip


def shown(capsys, result):
    page(result)
    return capsys.readouterr()


def test_a_plan_is_a_line_for_each_task_with_its_reasons(capsys):
    told = shown(capsys, PLAN)
    assert told.out.splitlines()[1].split("\t")[:3] == ["bank.cards", "40", "classification"]
    assert "bank.cards: low: its validation loss rises in epoch 2" in told.err
    assert "warning: a warning" in told.err


def test_a_training_names_its_versions_and_the_proposal_that_comes_next(capsys):
    told = shown(capsys, TRAINED)
    assert "bank.cards@4" in told.out
    assert "`signalbox multitask propose --adapter bank.cards@4" in told.err


def test_a_proposal_says_scores_interval_savings_and_the_release(capsys):
    told = shown(capsys, PROPOSED)
    assert "+0.250" in told.out
    assert "-0.100 to +0.500" in told.out
    assert "slots: 3 before, 2 after" in told.err
    assert "1.0 MiB" in told.err
    assert "`signalbox releases promote rel_1`" in told.err


def test_only_what_has_succeeded_has_a_page():
    assert has_page({"state": "succeeded", "result": PLAN})
    assert not has_page({"state": "failed", "result": None})
    assert not has_page({"state": "succeeded", "result": {"ref": "bank.cards@1"}})
