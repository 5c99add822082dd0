"""The playground's form."""

import pytest
from pydantic import ValidationError
from starlette.datastructures import FormData

from services.api.console.asking import read_form


def form(*fields, **more):
    return FormData([*fields, *more.items()])


def test_turns_are_read_in_order_and_empty_ones_left_out():
    turns = [("role", "user"), ("turn", "hello"), ("role", "assistant"), ("turn", " "), ("role", "user"), ("turn", "x")]
    wish = read_form(form(*turns, instruction="Be brief.", model=" fin.sa "), may_explain=True)
    assert [(turn.role, turn.content) for turn in wish.messages] == [
        ("system", "Be brief."),
        ("user", "hello"),
        ("user", "x"),
    ]
    assert wish.model == "fin.sa"


def test_numbers_are_read_and_what_is_left_empty_is_not_said():
    wish = read_form(form(role="user", turn="x", max_new_tokens="7", temperature="0.5", seed=""), may_explain=True)
    assert wish.fields == {"params": {"max_new_tokens": 7, "temperature": 0.5}}


@pytest.mark.parametrize("may_explain", [True, False])
def test_only_who_may_read_training_rows_gets_an_explanation(may_explain):
    wish = read_form(form(role="user", turn="x", explain="1"), may_explain=may_explain)
    assert wish.fields.get("explain", False) == may_explain


@pytest.mark.parametrize("fields", [{"turn": ""}, {"turn": "x", "max_new_tokens": "many"}, {"turn": "x", "seed": "-1"}])
def test_what_no_job_could_ask_is_refused(fields):
    with pytest.raises(ValidationError):
        read_form(form(role="user", **fields), may_explain=True)
