"""Tools in requests: their bounds, the turns that call and answer, and what a demanded call has to be."""

import json

import jsonschema
import pytest
from llguidance import LLMatcher
from pydantic import ValidationError

from shared.constraints.program import byte_tokenizer, fault, matcher
from shared.contracts.conversation import count_old_turns, message, with_instruction, without_old_turns
from shared.contracts.dialogue import human_turns, turns_read
from shared.contracts.generation import Choice, GenerationBody, GenerationResult, SelectBody
from shared.contracts.generation_params import GenerationParams
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading
from shared.contracts.tools import MAX_DEPTH, Called, Function, Tool, call_constraint, checked_tools
from tests.support.tool_chats import ASKED, PARALLEL, ROUND, TOOLS, WEATHER, answer, call, calls, tool


def nested(depth):
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": "f", "parameters": {"type": "string"}}, "of the type object"),
        ({"name": "f", "parameters": "[1]"}, "no JSON object"),
        ({"name": "f", "parameters": "{"}, "no JSON"),
        ({"name": "f", "parameters": nested(MAX_DEPTH + 1)}, "nested too deeply"),
        ({"name": "f", "parameters": nested(800)}, "nested too deeply"),
        ({"name": "f", "parameters": {"a": float("nan")}}, "JSON compliant"),
        ({"name": "f", "parameters": {"a": "\ud800"}}, "unicode"),
        ({"name": "f", "parameters": '{"a": "\\ud800"}'}, "no JSON"),
        ({"name": "a b"}, "match pattern"),
        ({"name": "f\n"}, "match pattern"),
        ({"name": "f" * 65}, "at most 64"),
        ({"name": "f", "strict": "yes"}, "valid boolean"),
    ],
)
def test_a_function_that_cannot_be_offered_is_refused(fields, why):
    with pytest.raises(ValidationError, match=why):
        Function.model_validate(fields)


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"a": NaN}', '{"a": "\\udc00"}', "[" * 90_000, '"x"'])
def test_arguments_are_a_json_object(arguments):
    with pytest.raises(ValidationError, match="arguments are"):
        Called(name="f", arguments=arguments)


def test_tools_have_names_of_their_own_and_a_size():
    with pytest.raises(ValueError, match="'now' is there twice"):
        checked_tools([tool("now"), tool("then"), tool("now")])
    with pytest.raises(ValueError, match="at most 65536 are taken"):
        checked_tools([tool(f"f{n}", "x" * 10_000) for n in range(7)])


def test_a_tool_is_shown_as_it_was_written_without_what_changes_nothing():
    written = {"name": "f", "description": "d", "parameters": {"z": None, "a": {"type": "object"}}, "strict": True}
    made = Tool.model_validate({"type": "function", "function": written})
    stored = Tool.model_validate(json.loads(made.model_dump_json(exclude_none=True)))
    del written["strict"]
    assert json.dumps(stored.shown()) == json.dumps({"type": "function", "function": written})


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([ASKED, answer(1, "x")], "no assistant message right before it makes"),
        ([*ROUND, answer(1, "again")], "has its answer already"),
        ([*ROUND[:2], answer(2, "x")], "answers the call 'call00002'"),
        (PARALLEL[:3], "the call 'call00002' has no answer before message 3"),
        ([*ROUND[:2], message("user", "well?")], "the call 'call00001' has no answer before message 2"),
        ([ASKED, calls(call(1), call(1)), answer(1, "x")], "two tool_calls with the same id"),
        ([*ROUND, calls(call(2))], "the call 'call00002' has no answer"),
        ([ASKED, message("assistant", "yes")], "end with the user message"),
    ],
)
def test_turns_of_tools_stand_right_behind_the_calls_that_they_answer(turns, why):
    with pytest.raises(ValidationError, match=why):
        SelectBody(messages=turns)


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ({"role": "user", "content": "x", "tool_calls": [call(1).model_dump()]}, "user message has no tool_calls"),
        ({"role": "user", "content": "x", "tool_call_id": "a"}, "user message has no tool_call_id"),
        ({"role": "tool", "content": "x"}, "needs the tool_call_id"),
        ({"role": "tool", "tool_call_id": "a"}, "content is missing"),
        ({"role": "assistant"}, "content is missing"),
    ],
)
def test_a_turn_has_what_its_role_has(turn, why):
    with pytest.raises(ValidationError, match=why):
        type(ASKED).model_validate(turn)


LONG = [message("user", "old"), *ROUND[1:], message("assistant", "21"), *PARALLEL]


def test_a_conversation_that_is_shortened_keeps_tools_with_their_calls_and_all_after_the_last_question():
    told = with_instruction(LONG, "Be brief.")
    assert count_old_turns(told) == 1
    assert without_old_turns(told, 1) == (told[0], *PARALLEL)
    SelectBody(messages=without_old_turns(told, 1))


@pytest.mark.parametrize("reading", [None, RequestReading(mode="last_turn"), RequestReading(mode="dialogue")])
def test_the_selector_reads_what_people_wrote_and_nothing_of_tools(reading):
    selector = ReleaseSelector(light="a" * 64, labels=("a.b", "c.d"))
    read = turns_read(LONG, "", selector, reading)
    assert read[-1] == ASKED.text
    assert all(text in ("old", ASKED.text) for text in read)
    reminded = [message("user", "<system-reminder>x</system-reminder>"), *ROUND[1:]]
    assert human_turns(reminded, RequestReading(mode="dialogue")) == [reminded[0].text]
    assert SelectBody(messages=LONG).last_user_text == ASKED.text


def test_tools_and_calls_count_for_the_tokens_of_a_request():
    body = GenerationBody(messages=ROUND, params=GenerationParams(tools=TOOLS))
    assert any("get_weather" in text for text in body.texts)
    assert any('"Paris"' in text for text in body.texts)
    hidden = GenerationBody(messages=[ASKED], params=GenerationParams(tools=TOOLS, tool_choice="none"))
    assert hidden.texts == (ASKED.text,)
    assert (body.needs_tools, hidden.needs_tools) == (True, False)


def accepts(found: LLMatcher, text):
    found = found.deep_copy()
    raw = text.encode()
    return found.try_consume_tokens(list(raw)) == len(raw) and found.is_accepting()


def test_a_demanded_call_is_one_of_the_tools_under_its_own_schema():
    place = {"$ref": "#/$defs/Place"}
    within = {
        "properties": {"at": place, "$ref": {"const": {"$ref": "#/x"}}},
        "required": ["at"],
        "$defs": {"Place": {"enum": ["here", "there"]}},
        "additionalProperties": False,
    }
    constraint = call_constraint([tool("go", parameters=within), tool("now"), tool("ask", parameters=WEATHER)])
    found = matcher(byte_tokenizer(), "json_schema", constraint.json_schema)
    assert fault(found) == ""
    jsonschema.Draft202012Validator.check_schema(json.loads(constraint.json_schema))
    good = ['{"name": "go", "arguments": {"at": "here"}}', '{"name":"now","arguments":{}}']
    good.append('{"name": "ask", "arguments": {"city": "x", "unit": "°C"}}')
    bad = ['{"name": "go", "arguments": {}}', '{"name": "go", "arguments": {"at": "x"}}', '{"name": "no"}']
    bad += ['{"name": "now", "arguments": {"a": 1}}', '{"name": "now"}', '{"name": "go", "arguments": "here"}']
    assert [text for text in good if not accepts(found, text)] == []
    assert [text for text in bad if accepts(found, text)] == []
    keyed = call_constraint([tool("now")], "tool_name", "parameters")
    other = matcher(byte_tokenizer(), "json_schema", keyed.json_schema)
    assert accepts(other, '{"tool_name": "now", "parameters": {}}')


def test_a_demand_is_for_all_tools_or_for_one():
    def demanded(choice):
        return [one.function.name for one in GenerationParams(tools=TOOLS, tool_choice=choice).demanded_tools]

    named = {"type": "function", "function": {"name": "now"}}
    assert [demanded(choice) for choice in ("auto", "none", "required", named)] == [
        [], [], ["get_weather", "now"], ["now"],
    ]  # fmt: skip


def test_a_result_has_calls_where_there_are_some_and_is_as_before_where_there_are_none():
    plain = GenerationResult(choices=(Choice(text="x"),)).model_dump(mode="json")
    assert "tool_calls" not in plain
    assert "tool_calls" not in plain["choices"][0]
    made = GenerationResult(choices=(Choice(tool_calls=(call(1, city="Paris"),), finish_reason="tool_calls"),))
    stored = made.model_dump(mode="json")
    assert stored["tool_calls"] == stored["choices"][0]["tool_calls"]
    assert GenerationResult.model_validate(stored) == made
