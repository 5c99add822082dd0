"""Constraints on a vocabulary of bytes: which texts fit, and which of them are kept compiled."""

import json
import re

import jsonschema
import pytest

from services.adapter_worker.engine import matchers
from services.adapter_worker.engine.fitting_text import fitting_text
from services.adapter_worker.engine.matchers import Matchers
from shared.constraints.program import byte_tokenizer
from shared.contracts.constraints import Constraint
from shared.errors import Invalid

SCHEMA = {
    "$defs": {"tags": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2}},
    "type": "object",
    "properties": {
        "tags": {"$ref": "#/$defs/tags"},
        "n": {"type": "integer", "minimum": 20},
        "note": {"type": "string"},
    },
    "required": ["tags", "n"],
    "additionalProperties": False,
}
ODD = 'a\x01\x7f"\\\n/é😀<>#&-~ |(b'


@pytest.fixture(scope="module")
def compiled():
    return Matchers(byte_tokenizer)


def fits(matcher, text):
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("constraint", "right", "wrong"),
    [
        ({"choices": ["yes", "yes but", ODD]}, ["yes", "yes but", ODD], ["ye", "no", "yes "]),
        ({"regex": "[ab]+c"}, ["abc"], ["c", "abcd", "xabc"]),
        ({"grammar": 'start: "x" N\nN: /[0-9]{2}/'}, ["x12"], ["x1", "12"]),
        ({"json_object": True}, ["{}", '{"a": [1]}', '{\n  "a": 1\n}'], ["[]", "{ \n\n }", "{    }"]),
        ({"json_schema": SCHEMA}, ['{"tags": ["x", "y"], "n": 20}'], ['{"tags": ["x"], "n": 20}', '{"n": 20}']),
    ],
)
def test_a_text_fits_or_does_not(compiled, constraint, right, wrong):
    found = {text: fits(compiled.of(Constraint(**constraint)), text) for text in (*right, *wrong)}
    assert found == dict.fromkeys(right, True) | dict.fromkeys(wrong, False)


def test_a_short_text_is_written_that_fits(compiled):
    jsonschema.validate(json.loads(fitting_text(compiled.of(Constraint(json_schema=SCHEMA)), 200)), SCHEMA)
    assert fitting_text(compiled.of(Constraint(choices=["zoo", "été"])), 200) == "zoo"
    assert re.fullmatch("[ab]{7}é", fitting_text(compiled.of(Constraint(regex="[ab]{7}é")), 200))
    assert fitting_text(compiled.of(Constraint(regex="[ab]{7}")), 3) == "aaa"


@pytest.mark.parametrize(
    "given",
    [
        {"regex": "a("},
        {"regex": "(?=a)b"},
        {"grammar": "start: nix"},
        {"grammar": "start: start"},
        {"grammar": "start: <tool>"},
        {"json_schema": {"type": "array", "uniqueItems": True}},
        {"json_schema": {"$ref": "http://127.0.0.1:1/schema.json"}},
        {"json_schema": {"type": "integer", "minimum": 3, "maximum": 2}},
    ],
)
def test_what_does_not_compile_or_fits_no_text_is_refused_by_the_name_of_its_field(compiled, given):
    (kind,) = given
    with pytest.raises(Invalid, match=rf"^params\.constraint\.{kind}: ."):
        compiled.of(Constraint(**given))


def test_few_compiled_constraints_are_kept_and_every_request_begins_at_the_beginning(monkeypatch):
    monkeypatch.setattr(matchers, "KEPT", 2)
    compiled = Matchers(byte_tokenizer)
    for text in ("a", "b", "a", "c"):
        assert fits(compiled.of(Constraint(choices=[text])), text)
    assert set(compiled._kept) == {Constraint(choices=[text]).digest for text in "ac"}
