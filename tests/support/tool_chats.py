"""Conversations with tools, and what transformers makes of them."""

import json

from shared.contracts.conversation import Message, message
from shared.contracts.tools import Tool, ToolCall

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city, e.g. Paris"},
        "unit": {"type": "string", "enum": ["°C", "°F"]},
        "days": {"type": ["integer", "null"], "default": None},
    },
    "required": ["city"],
}


def tool(name, description=None, parameters=None):
    return Tool.model_validate(
        {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
    )


TOOLS = (tool("get_weather", "The weather of a city, as “text”.", WEATHER), tool("now"))


def call(number, name="get_weather", **arguments):
    called = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return ToolCall.model_validate({"id": f"call{number:05}", "type": "function", "function": called})


def calls(*several, text=None):
    return Message(role="assistant", content=text, tool_calls=several)


def answer(number, text):
    return Message(role="tool", content=text, tool_call_id=f"call{number:05}")


ASKED = message("user", "What is the weather in Paris?")
ROUND = [ASKED, calls(call(1, city="Paris", unit="°C")), answer(1, '{"degrees": 21, "said": "warm\n& dry"}')]
PARALLEL = [
    ASKED,
    calls(call(1, city="Paris"), call(2, "now")),
    answer(1, "21°"),
    answer(2, "12:00"),
]
CONVERSATIONS = {
    "one question": [ASKED],
    "an instruction": [message("system", "Be brief."), ASKED],
    "a call": ROUND,
    "a call that is answered": [*ROUND, message("assistant", "It is 21 °C."), message("user", "And tomorrow?")],
    "calls one after the other": [*ROUND, calls(call(2, city="Lyon", days=2)), answer(2, "rain")],
    "an empty answer of a tool": [*ROUND[:2], answer(1, "")],
    "two calls at once": PARALLEL,
}


def said(messages):
    """The messages as transformers takes them."""
    return [_said(turn, messages) for turn in messages]


def _said(turn, messages):
    fields = {"role": turn.role, "content": turn.text}
    if turn.tool_calls:
        called = ((one.id, one.function) for one in turn.tool_calls)
        fields["tool_calls"] = [
            {"id": its_id, "type": "function", "function": {"name": of.name, "arguments": json.loads(of.arguments)}}
            for its_id, of in called
        ]
    if turn.tool_call_id:
        names = {one.id: one.function.name for before in messages for one in before.tool_calls or ()}
        fields |= {"tool_call_id": turn.tool_call_id, "name": names[turn.tool_call_id]}
    return fields


def theirs(tokenizer, messages, tools):
    """The ids that transformers gives a conversation with tools."""
    shown = [one.shown() for one in tools] or None
    return tokenizer.apply_chat_template(said(messages), tools=shown, add_generation_prompt=True)["input_ids"]
