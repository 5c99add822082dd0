"""What the form of a training comes to: a body, and the command that does the same."""

import json
import shlex

import pytest

from services.api.console.training_form import DEFAULTS, body_of, command_of
from services.api.training.service import REQUEST
from shared.errors import Invalid

UNTOUCHED = {name: str(value) for name, value in DEFAULTS.items()}


def test_what_is_as_it_was_stays_out_of_the_body():
    fields = {"kind": "adapter.train", "label": " fin.sa ", "dataset": "rows", "instruction": "", **UNTOUCHED}
    assert body_of(fields) == {"kind": "adapter.train", "label": "fin.sa", "dataset": "rows"}
    changed = body_of(fields | {"epochs": "2", "learning_rate": "4e-4"})
    assert changed["settings"] == {"epochs": "2"}
    assert REQUEST.validate_python(changed).settings.epochs == 2


def test_labels_are_lines():
    fields = {"kind": "selector.train", "labels": "fin.sa = one\n\ndefault.help=two\n", "promote": "true"}
    assert body_of(fields)["labels"] == {"fin.sa": "one", "help": "two"}
    assert body_of(fields)["promote"] is True
    gone = {"kind": "selector.delete", "labels": "fin.sa\n fin.ha\n"}
    assert body_of(gone)["labels"] == ["fin.sa", "fin.ha"]
    with pytest.raises(Invalid):
        body_of(fields | {"labels": "fin.sa"})


def test_further_fields_join_the_body_and_its_settings():
    fields = {"kind": "adapter.train", "label": "a", "dataset": "b", "rank": "4", "more": '{"settings": {"seed": 1}}'}
    assert body_of(fields)["settings"] == {"rank": "4", "seed": 1}
    for wrong in ("{", "[1]", "[" * 100_000):
        with pytest.raises(Invalid):
            body_of(fields | {"more": wrong})


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"kind": "adapter.train", "label": "a.b", "dataset": "rows"}, "train adapter --label a.b --dataset rows"),
        (
            {"kind": "selector.add", "labels": {"a.b": "rows"}, "promote": True, "confirm_cost": True},
            "train selector --add --label a.b=rows --promote --confirm-cost",
        ),
        (
            {"kind": "selector.delete", "labels": ["a.b"], "retention": "auto"},
            "train selector --delete a.b --retention auto",
        ),
        (
            {"kind": "selector.train", "labels": {"a b": "$x"}, "selector": "light"},
            "train selector --label 'a b=$x' --kind light",
        ),
    ],
)
def test_the_command_does_the_same(body, command):
    assert command_of(body) == f"signalbox {command}"


def test_what_has_no_option_goes_into_a_file():
    body = {"kind": "adapter.train", "label": "a.b", "dataset": "rows", "settings": {"rank": 4}}
    command, _, file = command_of(body).partition("   # FILE: ")
    assert shlex.split(command)[-2:] == ["--settings", "FILE"]
    assert json.loads(file) == {"settings": {"rank": 4}}
