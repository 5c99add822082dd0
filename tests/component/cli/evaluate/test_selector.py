"""`signalbox evaluate selector` over a light selector of three labels, on files with labels that it does not know."""

import json
from types import SimpleNamespace

import pytest

from services.cli.evaluate import selector as command
from shared.errors import Invalid
from tests.support.reference_release import selector


@pytest.fixture
def evaluate(served, tiny_folder, monkeypatch, tmp_path):
    """Evaluate these files' rows, by the name of each file."""
    monkeypatch.setenv("SIGNALBOX_BASE_MODEL", str(tiny_folder))
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
    chosen = selector(light="light")
    stored = SimpleNamespace(weights=served(chosen).weights)
    monkeypatch.setattr(command, "current_selector", lambda settings, release_id: (stored, chosen))

    def run(label="", **files):
        paths = [tmp_path / f"{name}.test.jsonl" for name in files]
        for path, rows in zip(paths, files.values(), strict=True):
            path.write_text("".join(json.dumps({"input": text, **more}) + "\n" for text, more in rows))
        return command.evaluate_selector(paths, "", "", label)

    return run


def test_rows_of_labels_that_the_release_lacks_are_counted_apart_and_named(evaluate, capsys):
    found = evaluate(x=[("cards 1", {}), ("cards 2", {"label": "bank.cards"}), ("trips 1", {"label": "travel.trips"})])
    assert (found["n"], found["accuracy"], found["unknown_labels"]) == (2, 1.0, {"x.test": 1})
    assert set(found["per_label"]) == {"bank.cards", "travel.trips"}
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: the release's selector does not know x.test (1 row); it knows bank.accounts, bank.cards" in said


def test_a_file_of_such_rows_alone_is_refused_until_a_label_is_named(evaluate):
    rows = {"x": [("cards 1", {}), ("cards 2", {})]}
    with pytest.raises(Invalid, match=r"does not know x\.test \(2 rows\)"):
        evaluate(**rows)
    found = evaluate(**rows, label="bank.cards")
    assert (found["n"], found["accuracy"], found["unknown_labels"]) == (2, 1.0, {})
