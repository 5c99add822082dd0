"""A job with tools, as a worker answers it: what it is asked, what its events tell, and what its result has."""

import json

import pytest

from services.adapter_worker.engine.base import Completion, Generation, Piece
from services.adapter_worker.engine.echo import EchoEngine
from services.adapter_worker.handlers import generate
from services.adapter_worker.prompts import worker_prompts
from shared.contracts.generation import generation_result
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.prompts import render
from shared.contracts.templates import PromptTemplate
from shared.ledger.keys import LedgerKey
from tests.support.chat_tokenizers import TEMPLATES
from tests.support.echo_release import ENTRY, RELEASE
from tests.support.tool_chats import ROUND, TOOLS

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


class Saying(EchoEngine):
    """Says these texts, one for each choice, a character at a time."""

    def __init__(self, *texts):
        super().__init__()
        self.texts = texts
        self.requests = []

    def generate(self, request, on_piece):
        self.requests.append(request)
        for index, text in enumerate(self.texts):
            for sign in text:
                on_piece(Piece(sign, index))
        choices = tuple(Completion(text, [1] * len(text), "stop") for text in self.texts)
        return Generation(choices, 5, 1.0, 2.0, prompt_shortened=False)


@pytest.fixture
def answered(jobs, attempts, registry, tiny_folder, tmp_path, ledger):
    """Lets a worker answer a job under a template that writes tools; gives the job and its events."""
    jinja = (TEMPLATES / "qwen2.5-tools.jinja").read_text()
    registry.templates.add("t", PromptTemplate(name="tools", jinja=jinja))
    prompts = worker_prompts(registry, tiny_folder, renders_jinja=True)

    def run(engine, template="tools", messages=ROUND[:1], **params):
        told = [one.model_dump(mode="json", exclude_none=True) for one in messages]
        offered = [one.model_dump(mode="json", exclude_none=True) for one in params.pop("tools", TOOLS)]
        body = {"messages": told, "params": {"tools": offered, **params}}
        job_id = jobs.new(JobKind.GENERATE, "generate.bank", body, label="bank.cards", deadline_seconds=60)
        release = RELEASE.model_copy(update={"labels": {"bank.cards": ENTRY.model_copy(update={"template": template})}})
        tools = {"engine": engine, "base_model": "tiny", "fetch": lambda _: tmp_path, "store_patience_seconds": 0}
        attempts.run("generate.bank", lambda attempt: generate(attempt, release, prompts=prompts, **tools))
        stored = ledger.redis.xrange(LedgerKey.EVENTS.of(job_id))
        return jobs.get(job_id), [(one["type"], json.loads(one["data"])) for _, one in stored]

    return run


def told(events, kind):
    return [data for name, data in events if name == kind]


def test_calls_are_told_and_kept_apart_from_the_text(answered):
    engine = Saying(f"I look.\n{CALL}\n{OTHER}")
    job, events = answered(engine)
    assert job.state is JobState.SUCCEEDED, job.error
    assert "# Tools" in render(engine.requests[0].prompt)
    choice = generation_result(job).choices[0]
    assert (choice.text, choice.finish_reason) == ("I look.", "tool_calls")
    assert [(one.function.name, json.loads(one.function.arguments)) for one in choice.tool_calls] == [
        ("get_weather", {"city": "Zürich"}), ("now", {}),
    ]  # fmt: skip
    assert "".join(data["text"] for data in told(events, "token")) == "I look."
    assert [data["tool_call"] for data in told(events, "tool_call")] == [
        {"index": n, **one.model_dump()} for n, one in enumerate(choice.tool_calls)
    ]
    kinds = [name for name, _ in events if name in ("token", "tool_call")]
    assert kinds == sorted(kinds, key=["token", "tool_call"].index)


def test_of_several_calls_only_the_first_counts_where_the_request_says_so(answered):
    job, _ = answered(Saying(f"{CALL}\n{OTHER}"), parallel_tool_calls=False)
    (one,) = generation_result(job).choices[0].tool_calls
    assert one.function.name == "get_weather"


def test_each_choice_has_its_own_calls(answered):
    job, events = answered(Saying(CALL, "None needed.", OTHER), n=3, temperature=1)
    choices = generation_result(job).choices
    assert [len(one.tool_calls) for one in choices] == [1, 0, 1]
    assert [one.finish_reason for one in choices] == ["tool_calls", "stop", "tool_calls"]
    assert [data["index"] for data in told(events, "tool_call")] == [0, 2]


@pytest.mark.parametrize(
    "text",
    ["<tool_call>{broken}</tool_call>", CALL.replace("get_weather", "get_time"), CALL[:-30], "a <tool_call> tag"],
)
def test_what_only_looks_like_a_call_stays_text(answered, text):
    job, events = answered(Saying(text))
    choice = generation_result(job).choices[0]
    assert (choice.text, choice.tool_calls, choice.finish_reason) == (text, (), "stop")
    assert "".join(data["text"] for data in told(events, "token")) == text


def test_hidden_tools_are_neither_shown_nor_read(answered):
    engine = Saying(CALL)
    job, _ = answered(engine, tool_choice="none")
    assert "# Tools" not in render(engine.requests[0].prompt)
    assert generation_result(job).choices[0].text == CALL


def test_a_demanded_call_binds_the_answer_in_place_of_what_the_adapter_comes_with(answered):
    engine = Saying('{"name": "now", "arguments": {}}')
    job, _ = answered(engine, tool_choice="required")
    assert engine.requests[0].constraint.kind == "json_schema"
    assert generation_result(job).choices[0].tool_calls[0].function.name == "now"


def test_what_tools_answered_is_in_the_prompt_and_a_long_conversation_keeps_it_with_its_call(answered):
    engine = Saying("21 degrees.")
    answered(engine, messages=[*ROUND[:1], *ROUND])
    request = engine.requests[0]
    for segments in (request.prompt, request.without_turns(request.old_turns)):
        text = render(segments)
        assert "<tool_response>\n" + ROUND[2].text in text
        assert '<tool_call>\n{"name": "get_weather"' in text


@pytest.mark.parametrize(("template", "code"), [("chatml", "tools_not_rendered"), ("model", "template_missing")])
def test_a_template_without_tools_ends_the_job_by_name(answered, template, code):
    for fields in ({}, {"tools": (), "messages": ROUND}):
        job, _ = answered(Saying("x"), template, **fields)
        assert (job.state, job.error["code"]) == (JobState.FAILED, code)
        assert job.error["retryable"] is False
        assert template in job.error["detail"]


def test_the_echo_engine_has_no_template_with_tools(jobs, attempts, tmp_path):
    from tests.support.echo_release import prompts

    tools = [one.model_dump(mode="json") for one in TOOLS]
    body = {"input": "hi", "params": {"tools": tools}}
    job_id = jobs.new(JobKind.GENERATE, "generate.bank", body, label="bank.cards", deadline_seconds=60)
    made = {"engine": EchoEngine(), "base_model": "tiny", "fetch": lambda _: tmp_path, "store_patience_seconds": 0}
    attempts.run("generate.bank", lambda attempt: generate(attempt, RELEASE, prompts=prompts, **made))
    assert jobs.get(job_id).error["code"] == "tools_not_rendered"
