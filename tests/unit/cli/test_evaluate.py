"""What `signalbox evaluate selector` draws and prints."""

import json

import pytest

from services.cli import show
from services.cli.evaluate import plot_curve
from shared.errors import Conflict

FOUND = {
    "accuracy": 0.9,
    "n": 100,
    "curve": [
        {"llm_share": 0.0, "sure": 0.0, "accuracy": 0.8, "ms": 0.2},
        {"llm_share": 1.0, "sure": 2.0, "accuracy": 0.9, "ms": 150.0},
    ],
}


def test_the_curve_is_drawn_into_a_picture(tmp_path):
    plot_curve(FOUND, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_selector_of_one_kind_has_no_curve(tmp_path):
    with pytest.raises(Conflict, match="only a cascade"):
        plot_curve({"accuracy": 0.9, "n": 1}, tmp_path / "curve.png")


def test_the_curve_is_a_table_of_its_own_and_part_of_the_json(capsys):
    show.evaluation(dict(FOUND), as_json=True)
    assert json.loads(capsys.readouterr().out) == FOUND
    show.evaluation(dict(FOUND), as_json=False)
    shown = capsys.readouterr().out
    assert "100%" in shown
    assert "never" in shown
