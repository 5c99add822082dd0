"""What `signalbox adapters check` says of a template that it has set."""

import pytest

from services.cli.commands.template_check import show

FOUND = {
    "scores": [{"templates": ["alpaca"], "doubt": 4.4, "loss": 0.1}],
    "warnings": [],
    "best": ["alpaca"],
    "ref": "bank.cards@2",
}


def test_a_template_that_was_set_is_told_apart_from_the_one_before_and_how_a_release_takes_it(capsys):
    show({**FOUND, "verdict": "clear", "template": "chatml"}, sets=True)
    out, err = capsys.readouterr()
    assert "template before\tchatml" in out
    assert err == (
        "bank.cards@2 has the template alpaca: "
        "`signalbox releases edit --add bank.cards=bank.cards@2 --promote` serves it\n"
    )


@pytest.mark.parametrize(
    ("verdict", "before", "sets"), [("clear", "chatml", False), ("clear", "alpaca", True), ("tie", "chatml", True)]
)
def test_where_no_template_was_set_no_release_is_spoken_of(capsys, verdict, before, sets):
    show({**FOUND, "verdict": verdict, "template": before}, sets=sets)
    assert capsys.readouterr().err == ""
