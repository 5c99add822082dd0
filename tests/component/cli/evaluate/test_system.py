"""`signalbox evaluate system` and `run-reference` over a release of tiny random adapters."""

import json

import pytest

from lab.run_reference import Question, read_questions, record, run_reference
from services.cli.evaluate import reference as open_path
from services.cli.evaluate import system, tables
from services.cli.evaluate.system import EvaluationPlan
from shared.errors import Conflict, Invalid
from tests.support.reference_release import NAMES, selector

TOKENS = 4


@pytest.fixture
def evaluate(served, monkeypatch, tmp_path):
    """Evaluate rows of (label, input, output) on a light selector that sends each word to its label."""

    def run(rows, threshold=0.0, reject_policy="base", **ask):
        opened = served(selector(light="light", threshold=threshold), reject_policy=reject_policy)
        monkeypatch.setattr(system, "open_reference", lambda settings, release: opened)
        file = tmp_path / "rows.jsonl"
        file.write_text("\n".join(json.dumps({"label": a, "input": b, "output": c}) for a, b, c in rows))
        return system.evaluate_system(EvaluationPlan([file], max_new_tokens=TOKENS, **ask)), opened

    return run


def own_answer(opened, label, text, limit=TOKENS):
    return opened.generate(opened.release.labels[label], text, max_new_tokens=limit)


def test_a_task_of_answers_by_its_own_adapter_is_all_right_by_oracle_and_as_right_as_the_selector_when_routed(
    evaluate, served
):
    probe = served(selector(light="light"))
    texts = {"bank.cards": ["cards 1", "cards 2", "trips 1"], "travel.trips": ["trips 2", "trips 3"]}
    rows = [(label, text, own_answer(probe, label, text) or "-") for label, own in texts.items() for text in own]

    found, _ = evaluate(rows, classification=list(texts))

    lines = {name: {task: e["value"] for task, e in line["tasks"].items()} for name, line in found["lines"].items()}
    assert lines["selector"] == {"bank.cards": pytest.approx(2 / 3), "travel.trips": 1}
    assert lines["oracle"] == {"bank.cards": 1, "travel.trips": 1}
    assert lines["routed"] == lines["selector"]
    assert found["lines"]["routed"]["mean"]["value"] == pytest.approx(5 / 6)
    low, high = (found["lines"]["routed"]["mean"][side] for side in ("low", "high"))
    assert low < 5 / 6 < high


def test_the_report_says_how_each_task_was_measured_and_why(evaluate):
    rows = [("bank.cards", f"cards {n}", "yes") for n in range(5)] + [("travel.trips", "trips 1", "一些文字")]

    found, _ = evaluate(rows)

    assert found["tasks"] == {
        "bank.cards": {"n": 5, "kind": "classification", "measure": "exact_match"},
        "travel.trips": {"n": 1, "kind": "generation", "measure": "rouge_l_f1"},
    }


@pytest.mark.parametrize("policy", ["base", "error"])
def test_a_rejected_row_is_answered_as_the_release_says(evaluate, tmp_path, policy):
    found, opened = evaluate(
        [("bank.cards", "cards 1", "yes")],
        threshold=1.0,
        reject_policy=policy,
        rows_file=tmp_path / "made" / "out.jsonl",
    )

    (row,) = map(json.loads, (tmp_path / "made" / "out.jsonl").read_text().splitlines())
    assert row["predicted"] == "none.none"
    assert row["oracle"] == own_answer(opened, "bank.cards", "cards 1")
    assert row["routed"] == ("" if policy == "error" else opened.generate(None, "cards 1", max_new_tokens=TOKENS))
    assert found["lines"]["selector"]["mean"]["value"] == 0


def test_background_is_only_routed(evaluate):
    rows = [("none.none", "cards 1", ""), ("bank.cards", "cards 2", "yes")]

    found, _ = evaluate(rows)

    assert found["background"] == {"n": 1, "rejected": 0}
    assert list(found["tasks"]) == ["bank.cards"]


def test_a_limit_takes_the_first_rows_of_each_label_and_kinds_are_told_by_all(evaluate):
    rows = [(label, f"x {n}", "yes") for label in NAMES for n in range(5)]

    found, _ = evaluate(rows, limit=2)

    assert [(task["n"], task["kind"]) for task in found["tasks"].values()] == [(2, "classification")] * 3


def test_the_weights_of_selector_and_adapters_are_counted(evaluate, tiny_folder):
    from shared.model.base import load_model

    found, _ = evaluate([("bank.cards", "cards 1", "yes")])

    # Rank 2 on q_proj [32, 32] and v_proj [16, 32] of two layers.
    assert found["parameters"]["adapters"]["bank.accounts"]["trainable"] == 2 * 2 * ((32 + 32) + (32 + 16))
    assert found["parameters"]["base"] == sum(p.numel() for p in load_model(tiny_folder, "float32").parameters())
    assert 0 < found["parameters"]["selector"]["light"]["share"] < 1


def test_the_lines_stand_side_by_side(evaluate, capsys, monkeypatch):
    monkeypatch.setattr(tables.output.out, "width", 200)
    found, _ = evaluate([("bank.cards", "cards 1", "yes")])
    tables.show_system(found, as_json=False)
    shown = capsys.readouterr().out
    for said in ("oracle routing", "bank.cards", "rouge_l_f1", "mean of tasks", "selector (light)"):
        assert said in shown


@pytest.mark.parametrize(
    ("rows", "code", "what"),
    [
        ([("law.ie", "x", "yes")], "label_unknown", "has no law.ie: leave these rows out"),
        ([("bank.cards", "x", "")], "outputs_missing", "signalbox evaluate selector"),
        ([("none.none", "x", "")], "rows_missing", "give rows of the release's labels"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused_with_what_to_do(evaluate, rows, code, what):
    with pytest.raises(Invalid, match=what) as refusal:
        evaluate(rows)
    assert refusal.value.code == code


def test_a_record_of_the_reference_names_label_probability_adapter_and_text(served):
    opened = served(selector(light="light"))
    questions = [Question("cards 1"), Question("cards 2", "Say it in Spanish.")]

    first, second = run_reference(opened, questions, TOKENS)

    assert (first["label"], first["adapter"], first["adapter_ref"]) == ("bank.cards", "bank-cards", "bank.cards@1")
    assert first["text"] == own_answer(opened, "bank.cards", "cards 1")
    assert first["probability"] == pytest.approx(opened.select("cards 1").best.probability, abs=1e-6)
    assert second["text"] == opened.answer("cards 2", "Say it in Spanish.", max_new_tokens=TOKENS).text


def test_a_record_of_a_rejected_text_has_no_label_and_no_adapter(served):
    opened = served(selector(light="light", threshold=1.0), reject_policy="error")
    answer = opened.answer("cards 1", max_new_tokens=TOKENS)

    said = record("cards 1", answer)

    assert (said["label"], said["adapter"], said["text"]) == (None, None, None)
    assert said["best_label"] == "bank.cards"


def test_questions_are_texts_as_they_are_and_the_rows_of_a_file(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "card", "label": "a.b", "instruction": "Do."}\n')

    assert read_questions([" a "], "Say.", tmp_path / "rows.jsonl") == [(" a ", "Say."), ("card", "Do.")]
    with pytest.raises(Invalid, match="a text is blank"):
        read_questions([" "], "", None)


def test_a_release_of_another_base_model_is_refused(served, monkeypatch, tiny_folder):
    release = served().release
    monkeypatch.setattr(open_path, "current_registry", lambda settings: None)
    monkeypatch.setattr(open_path, "find_release", lambda registry, release_id: release)
    from shared.settings import Settings

    with pytest.raises(Invalid, match="set SIGNALBOX_BASE_MODEL to the one it was made for"):
        open_path.open_reference(Settings(base_model=str(tiny_folder)))


def test_a_candidate_without_adapters_is_refused_instead_of_answering_as_the_base_model(served, monkeypatch):
    release = served().release
    bare = {label: entry.model_copy(update={"adapter": ""}) for label, entry in release.labels.items()}
    monkeypatch.setattr(open_path, "current_registry", lambda settings: None)
    monkeypatch.setattr(open_path, "find_release", lambda registry, name: release.model_copy(update={"labels": bare}))
    from shared.settings import Settings

    with pytest.raises(Conflict, match="made without adapters of"):
        open_path.open_reference(Settings())
