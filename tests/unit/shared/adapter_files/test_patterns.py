"""Regular expressions of strangers: matched as PEFT matches them, within bounds."""

import re

import pytest

from shared.adapter_files.patterns import match_all, of_key, value_of
from shared.errors import Invalid

NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.up_proj", "lm_head"]


@pytest.mark.parametrize(
    "text",
    [
        "lm_head",
        "q_proj",
        of_key("q_proj"),
        of_key("layers.1.mlp.up_proj"),
        of_key(r"layers\.11\.mlp\.up_proj"),
        r".*\.(q|up)_proj",
        r"(?!.*mlp).*_proj",
        r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.)",
        of_key("^model.*q_proj$"),
    ],
)
def test_names_match_as_in_python(text):
    assert match_all([text], NAMES) == {text: dict.fromkeys(filter(re.compile(text).fullmatch, NAMES), "")}


def test_the_group_of_the_layer_is_told():
    assert match_all([r".*?\.(?P<idx>\d+)\..*"], NAMES) == {r".*?\.(?P<idx>\d+)\..*": {NAMES[0]: "0", NAMES[1]: "11"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (".*(", r"'\.\*\(' is no regular expression"),
        ("[", "is no regular expression"),
        ("a{1}{2}", "is no regular expression"),
        ("(" * 5000, "list the modules' names in its place"),
        (r"(([a-z_.]|\d)+)+!", "takes too long on this base model's names"),
        (r"(a?){4000}{4000}", "list the modules' names in its place"),
    ],
)
def test_what_cannot_be_matched_is_refused(text, says):
    with pytest.raises(Invalid, match=says) as caught:
        match_all([text], NAMES)
    assert caught.value.code == "adapter_config_invalid"


def test_the_first_key_that_matches_gives_the_value():
    pattern = {"mlp.up_proj": 1, "up_proj": 2, "q_proj": 3}
    assert [value_of(pattern, name, 9) for name in NAMES] == [3, 1, 9]
