"""Calls in answers: found whole and piece by piece alike, and only where they are calls of offered tools."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.tools import Called
from shared.prompts.call_form import CallForm
from shared.prompts.call_reader import CallReader

HERMES = CallForm("<tool_call>", "</tool_call>\n<tool_call>", "</tool_call>")
MISTRAL = CallForm("[TOOL_CALLS] [", ",", "]")
LLAMA = CallForm(arguments_key="parameters")
LIST = CallForm("[", ",", "]")
FIRST = '{"name": "f", "arguments": {"a": "x}\\"{<tool_call>", "b": [1, {"c": null}]}}'
SECOND = '{"name":"g","arguments":{}}'
CALLED = ("f", {"a": 'x}"{<tool_call>', "b": [1, {"c": None}]})


def read(form, pieces):
    """What is found, neighbouring texts as one."""
    reader, found = CallReader(form, {"f", "g"}), []
    for piece in pieces:
        found += reader.push(piece)
    told = []
    for one in [*found, *reader.end()]:
        if isinstance(one, Called):
            told.append((one.name, json.loads(one.arguments)))
        elif told and isinstance(told[-1], str):
            told[-1] += one
        else:
            told.append(one)
    return told


CASES = [
    (HERMES, f"<tool_call>\n{FIRST}\n</tool_call>", [CALLED]),
    (HERMES, f"Let me see.\n\n<tool_call>\n{FIRST}\n</tool_call>", ["Let me see.", CALLED]),
    (HERMES, f"<tool_call>{FIRST}</tool_call>\n<tool_call>\n{SECOND}\n</tool_call>\n", [CALLED, ("g", {})]),
    (HERMES, f"<tool_call>{FIRST}</tool_call> and <tool_call>{SECOND}", [CALLED, " and", ("g", {})]),
    (HERMES, "a <tool_call> b", ["a <tool_call> b"]),
    (HERMES, "2 < 3\n\n<tool", ["2 < 3\n\n<tool"]),
    (HERMES, "ends with blanks \n", ["ends with blanks \n"]),
    (HERMES, '<tool_call>{"name": "h", "arguments": {}}</tool_call>', None),
    (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>', None),
    (HERMES, '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>', None),
    (HERMES, '<tool_call>{"name": "f", "arguments": {</tool_call>', None),
    (HERMES, "<tool_call>{'name': 'f'}</tool_call>", None),
    (HERMES, f"<tool_call>{{bad}}</tool_call> <tool_call>{SECOND}", ["<tool_call>{bad}</tool_call>", ("g", {})]),
    (HERMES, '<tool_call>{"name": "g"}</tool_call>', [("g", {})]),
    (HERMES, '<tool_call>{"name": "g", "arguments": "{\\"a\\": 1}"}</tool_call>', [("g", {"a": 1})]),
    (HERMES, '<tool_call>{"name": "g", "arguments": {"a": "two\nlines"}}', [("g", {"a": "two\nlines"})]),
    (HERMES, f"no mark {FIRST}", None),
    (MISTRAL, f"[TOOL_CALLS] [{FIRST}]", [CALLED]),
    (MISTRAL, f"[TOOL_CALLS][{FIRST}, {SECOND}]", [CALLED, ("g", {})]),
    (MISTRAL, f"Sure. [TOOL_CALLS] [{SECOND}] Done.", ["Sure.", ("g", {}), " Done."]),
    (MISTRAL, "[TOOL_CALLS] 5", None),
    (MISTRAL, f"[{FIRST}]", None),
    (LLAMA, '{"name": "g", "parameters": {"a": 1}}', [("g", {"a": 1})]),
    (LLAMA, ' \n{"name": "g", "parameters": {}} ', [("g", {})]),
    (LLAMA, '{"name": "g", "parameters": {}}\n{"name": "f", "parameters": {}}', [("g", {}), ("f", {})]),
    (LLAMA, '{"answer": 1}', None),
    (LLAMA, 'I call {"name": "g", "parameters": {}}', None),
    (LLAMA, "{", None),
    (LLAMA, " \n", None),
    (LIST, f"[{FIRST}, {SECOND}]", [CALLED, ("g", {})]),
    (LIST, "[1, 2]", None),
    (LIST, "[", None),
]


@pytest.mark.parametrize(("form", "text", "expected"), CASES)
def test_calls_are_read_wherever_the_text_is_cut(form, text, expected):
    expected = [text] if expected is None else expected
    assert read(form, [text]) == expected
    assert read(form, text) == expected
    for at in range(len(text)):
        assert read(form, [text[:at], text[at:]]) == expected, at


@given(
    st.lists(st.sampled_from(["<tool_call>", "</tool_call>", FIRST, SECOND, "<tool", "{", "}", "\n", " ", "a", '"']))
)
def test_any_text_is_read_alike_whole_and_by_the_character_and_nothing_of_it_is_lost(parts):
    text = "".join(parts)
    found = read(HERMES, [text])
    assert read(HERMES, text) == found
    if not any(isinstance(one, tuple) for one in found):
        assert "".join(found) == text


def test_what_can_be_told_is_told_at_once():
    reader = CallReader(HERMES, {"f"})
    assert reader.push("The price is 3 <") == ["The price is 3"]
    assert reader.push(" 4, so") == [" < 4, so"]
    assert reader.push("\n<tool_call>") == []
    assert reader.push('{"name": "f", "arguments": {}}')[0].name == "f"
    assert reader.end() == []


@pytest.mark.parametrize("text", ["\n" * 50_000, "<" * 50_000, "<tool_call>" * 5_000, "< " * 25_000, '"' * 50_000])
def test_the_time_is_linear_in_the_text(text):
    assert read(HERMES, [text]) == [text]
    assert read(HERMES, text) == [text]
