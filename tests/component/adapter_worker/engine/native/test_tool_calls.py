"""Calls that a request demands, by the real engine: each answer is one of an offered tool, under its schema."""

import json

import jsonschema
import pytest

from services.adapter_worker.handlers import choice_of, generation_request
from services.adapter_worker.telling import Telling
from services.adapter_worker.tool_calls import Calling
from shared.contracts.generation import generation_body
from shared.contracts.templates import PromptTemplate
from shared.prompts.bound import BasePrompts
from tests.support.old_jobs import job_of
from tests.support.tool_chats import TOOLS, tool

JINJA = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
BRIEF = {
    "type": "object",
    "properties": {"unit": {"enum": ["C", "F"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["unit", "days"],
    "additionalProperties": False,
}
OFFERED = [tool("weather", parameters=BRIEF), tool("now")]


@pytest.fixture(scope="module")
def engine(kit):
    engine = kit.engine(max_batch=8)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def asked(kit, engine):
    """Answers a job with tools as a worker does; gives its choices, and what was told meanwhile."""
    template = BasePrompts(kit.tokenizer).bind(PromptTemplate(name="house", jinja=JINJA))

    def ask(**params):
        body = {"messages": [{"role": "user", "content": "hi"}], "params": {"max_new_tokens": 96, **params}}
        body["params"]["tools"] = [one.model_dump(mode="json") for one in params.get("tools", OFFERED)]
        job = job_of(body=json.dumps(body), at_running="2", seed="7")
        calling = Calling(job, generation_body(job).params, template)
        request = generation_request(job, None, template, calling)
        told = []
        telling = Telling(lambda kind, data: told.append((kind, data)), request, calling)
        generation = engine.generate(request, telling.piece)
        telling.end()
        return [choice_of(n, one, calling) for n, one in enumerate(generation.choices)], told

    return ask


def schema_of(name):
    return BRIEF if name == "weather" else {"type": "object", "additionalProperties": False}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_demanded_call_is_there_whatever_the_model_would_say(asked, choice):
    found = [one for seed in range(4) for one in asked(tool_choice=choice, temperature=1.5, seed=seed, n=3)[0]]
    for one in found:
        assert one.finish_reason == "tool_calls"
        assert one.text == ""
        (made,) = one.tool_calls
        jsonschema.validate(json.loads(made.function.arguments), schema_of(made.function.name))
    names = {one.tool_calls[0].function.name for one in found}
    assert names == ({"weather"} if isinstance(choice, dict) else {"weather", "now"})


def test_a_demanded_call_that_is_cut_is_text_and_says_that_it_was_cut(asked):
    ((one,), told) = asked(tool_choice="required", max_new_tokens=8)
    assert (one.tool_calls, one.finish_reason) == ((), "length")
    assert one.text == "".join(data["text"] for kind, data in told if kind == "token") != ""


def test_what_is_told_meanwhile_is_what_the_result_has(asked):
    choices, told = asked(tool_choice="required", temperature=1.0, n=2, logprobs=True, top_logprobs=1)
    for one in choices:
        calls = [data["tool_call"] for kind, data in told if kind == "tool_call" and data["index"] == one.index]
        assert calls == [{"index": 0, **one.tool_calls[0].model_dump()}]
        scores = [
            data["logprobs"]["token_ids"] for kind, data in told if kind == "token" and data["index"] == one.index
        ]
        assert [token for several in scores for token in several] == list(one.logprobs.token_ids)
    assert choices[0].tool_calls[0].id != choices[1].tool_calls[0].id


def test_an_answer_without_a_call_is_text_and_ids_are_those_of_every_try(asked):
    ((one,), told) = asked(max_new_tokens=12)
    assert (one.tool_calls, one.finish_reason) == ((), "length")
    assert one.text == "".join(data["text"] for kind, data in told if kind == "token")
    first, second = (asked(tool_choice="required", seed=3)[0][0].tool_calls[0] for _ in range(2))
    assert first == second
    assert first.id.isalnum()
    assert len(first.id) == 9


def test_a_template_that_writes_no_tools_is_refused_before_the_engine_is_asked(kit):
    from shared.errors import Invalid

    template = BasePrompts(kit.tokenizer).bind(PromptTemplate(name="house"))
    tools = [one.model_dump(mode="json") for one in TOOLS]
    job = job_of(body=json.dumps({"input": "hi", "params": {"tools": tools}}), at_running="2")
    with pytest.raises(Invalid, match="'house' writes no tools"):
        Calling(job, generation_body(job).params, template)
