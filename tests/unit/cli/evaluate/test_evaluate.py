"""What `signalbox evaluate selector` draws and prints."""

import json

import pytest
from typer.testing import CliRunner

from services.cli.evaluate import selector, tables
from services.cli.evaluate.labelled_rows import LabelledRow
from services.cli.evaluate.plots import CELLS_WITH_NUMBERS, confusion_matrix, markdown, plot_curve, write_confusion
from services.cli.evaluate.selector import texts_to_read
from services.cli.main import app
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.rows import Row
from shared.errors import Conflict, Invalid

FOUND = {
    "accuracy": 0.9,
    "n": 100,
    "curve": [
        {"llm_share": 0.0, "sure": 0.0, "accuracy": 0.8, "ms": 0.2},
        {"llm_share": 1.0, "sure": 2.0, "accuracy": 0.9, "ms": 150.0},
    ],
}
CONFUSION = {"bank.cards": {"bank.cards": 7, "none.none": 3}, "travel.trips": {"bank.cards": 1, "travel.trips": 9}}
LABELLED = {
    "confusion": CONFUSION,
    "per_label": {"bank.cards": 0.7, "travel.trips": 0.9},
    "intervals": {"per_label": {"bank.cards": (0.4, 0.9), "travel.trips": (0.7, 1.0)}},
}
PNG = b"\x89PNG"


@pytest.mark.parametrize(
    ("own", "asked", "read"),
    [
        ("instruction+input", "", ["Name it.\na", "b"]),
        ("input", "", ["a", "b"]),
        ("instruction+input", "input", ["a", "b"]),
        ("input", "instruction+input", ["Name it.\na", "b"]),
    ],
)
def test_rows_are_read_as_the_release_says_unless_told_otherwise(own, asked, read):
    selector = ReleaseSelector(light="light", labels=("bank.cards",), text=own)
    rows = [
        LabelledRow("bank.cards", Row(input="a", instruction="Name it.")),
        LabelledRow("bank.cards", Row(input="b")),
    ]

    assert texts_to_read(selector, rows, asked) == read


def test_the_command_leaves_the_reading_to_the_release(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(selector, "evaluate_selector", lambda *given: asked.append(given[1:]) or dict(FOUND))
    command = ["evaluate", "selector", "--data", str(tmp_path), "--json"]

    for more in ([], ["--text", "input"], ["--label", "default.support"]):
        assert CliRunner().invoke(app, [*command, *more]).exit_code == 0

    assert asked == [("", "", ""), ("input", "", ""), ("", "", "support")]


def test_an_unknown_reading_is_refused():
    with pytest.raises(Invalid, match="give input or instruction"):
        texts_to_read(ReleaseSelector(light="light", labels=("bank.cards",)), [], "output")


def test_the_curve_is_drawn_into_a_picture(tmp_path):
    plot_curve(FOUND, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_a_selector_of_one_kind_has_no_curve(tmp_path):
    with pytest.raises(Conflict, match="only a cascade"):
        plot_curve({"accuracy": 0.9, "n": 1}, tmp_path / "curve.png")


def test_the_curve_is_a_table_of_its_own_and_part_of_the_json(capsys):
    tables.show_selector(dict(FOUND), as_json=True)
    assert json.loads(capsys.readouterr().out) == FOUND
    tables.show_selector(dict(FOUND), as_json=False)
    shown = capsys.readouterr().out
    assert "100%" in shown
    assert "never" in shown


def test_a_confusion_matrix_is_a_picture_with_json_and_a_table_beside_it(tmp_path):
    write_confusion(LABELLED, tmp_path / "made" / "confusion.png")

    assert (tmp_path / "made" / "confusion.png").read_bytes().startswith(PNG)
    assert json.loads((tmp_path / "made" / "confusion.json").read_text()) == {
        "gold": ["bank.cards", "travel.trips"],
        "predicted": ["bank.cards", "none.none", "travel.trips"],
        "counts": [[7, 3, 0], [1, 0, 9]],
    }
    assert (tmp_path / "made" / "confusion.md").read_text() == markdown(confusion_matrix(CONFUSION))


def test_the_table_of_a_confusion_leaves_zeros_out_and_tells_what_is_right():
    assert markdown(confusion_matrix(CONFUSION)) == (
        "| gold / predicted | bank.cards | none.none | travel.trips | right |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| bank.cards | 7 | 3 |  | 0.700 |\n"
        "| travel.trips | 1 |  | 9 | 0.900 |\n"
    )


def test_many_labels_are_drawn_too(tmp_path):
    labels = [f"a.t{number}" for number in range(CELLS_WITH_NUMBERS + 5)]
    write_confusion({"confusion": {label: {label: 3} for label in labels}}, tmp_path / "many.png")
    assert (tmp_path / "many.png").read_bytes().startswith(PNG)


def test_each_label_is_a_row_with_what_it_was_taken_for(capsys):
    tables.show_selector(LABELLED, as_json=False)
    shown = capsys.readouterr().out
    for said in ("none.none 3", "0.700", "0.400 to 0.900"):
        assert said in shown


def test_rows_that_are_not_measured_are_in_the_table_where_there_are_any(capsys):
    tables.show_selector({"accuracy": 1.0, "unknown_labels": {"x.test": 3}}, as_json=False)
    assert '{"x.test": 3}' in capsys.readouterr().out
    tables.show_selector({"accuracy": 1.0, "unknown_labels": {}}, as_json=False)
    assert "unknown_labels" not in capsys.readouterr().out
