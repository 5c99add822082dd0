"""Tools in chats, asked by the `openai` package: calls whole and in streams, their answers, and what is refused."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel
from signalbox import AsyncSignalbox

from shared.contracts.jobs import JobState
from shared.ledger import calls
from tests.support.api import code, make_release

QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
FIN = "generate.fin"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"], "default": None}},
    "required": ["city"],
}
WEATHER = {"name": "get_weather", "description": "The weather.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": {"name": "now"}}]
PARIS = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
CALL = {"id": "k3j9x2lqa", "type": "function", "function": PARIS}
OTHER = {"id": "abcdefghi", "type": "function", "function": {"name": "now", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWER = {"role": "tool", "tool_call_id": CALL["id"], "content": "21 degrees"}


@pytest.fixture(autouse=True)
def release(registry, weights):
    """The current release: one label has a template of frames, the others their base model's own."""
    made = make_release()
    labels = {
        label: entry.model_copy(update={"template": "chatml" if label == "med.qa" else "model"})
        for label, entry in made.labels.items()
    }
    made = made.model_copy(update={"labels": labels})
    registry.releases.add(made)
    registry.releases.promote("default", made.id, force=True)
    return made


@pytest.fixture
async def client(api, tokens):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as made:
        yield made


@pytest.fixture
def taken(broker, ledger):
    """Waits for a message of the group, and takes the next job as a worker does."""

    def take(lease_seconds=15.0, queue=FIN):
        assert broker.brpop([queue], timeout=30)
        return ledger.do(calls.acquire_next(queue, "worker", lease_seconds))

    return take


@pytest.fixture
def working(taken, worker):
    """Starts a worker that tells these events of the next job, and ends it with these choices; gives the job."""

    def work(*events, choices, queue=FIN):
        def run():
            job = taken(queue=queue)
            for kind, data in events:
                worker.tell(job, kind, **data, attempt=job.attempt)
            worker.end(job, JobState.SUCCEEDED, result={"choices": choices, "label": "fin.sa"})
            return job

        return asyncio.create_task(asyncio.to_thread(run))

    return work


def called(*several, text="", index=0):
    return {"index": index, "text": text, "finish_reason": "tool_calls", "tool_calls": list(several)}


def told(call, number=0, **more):
    return ("tool_call", {"tool_call": {"index": number, **call}, **more})


async def test_an_answer_has_calls_and_the_tools_reach_the_job_as_they_were_written(client, working):
    job = working(choices=[called(CALL, OTHER, text="I look.")])
    answer = await client.chat.completions.create(
        model="fin.sa", messages=QUESTION, tools=TOOLS, tool_choice="auto", parallel_tool_calls=True
    )
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
    assert [one.model_dump() for one in choice.message.tool_calls] == [CALL, OTHER]
    params = (await job).body["params"]
    assert (params["tool_choice"], params["parallel_tool_calls"]) == ("auto", True)
    stored = params["tools"][0]["function"]
    assert json.dumps(json.loads(stored["parameters"])) == json.dumps(PARAMETERS)
    assert params["tools"][1] == {"type": "function", "function": {"name": "now"}}


async def test_a_call_without_a_text_has_no_content_and_goes_back_as_the_package_wrote_it(client, working):
    job = working(choices=[called(CALL)])
    answer = await client.chat.completions.create(model="fin.sa", messages=QUESTION, tools=TOOLS)
    assert answer.choices[0].message.content is None
    await job
    job = working(choices=[{"text": "It is 21 degrees."}])
    again = [*QUESTION, answer.choices[0].message, ANSWER]
    answer = await client.chat.completions.create(model="fin.sa", messages=again, tools=TOOLS)
    assert answer.choices[0].message.content == "It is 21 degrees."
    assert answer.choices[0].message.tool_calls is None
    assert (await job).body["messages"][1:] == [{"role": "assistant", "tool_calls": [CALL]}, ANSWER]


async def test_a_stream_tells_each_call_whole_behind_the_text(client, working):
    events = [("token", {"text": "I lo"}), ("token", {"text": "ok."}), told(CALL), told(OTHER, 1)]
    job = working(*events, choices=[called(CALL, OTHER, text="I look.")])
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, tools=TOOLS, stream=True)
    chunks = [chunk.choices[0] async for chunk in stream]
    await job
    assert "".join(one.delta.content or "" for one in chunks) == "I look."
    found = [one for chunk in chunks for one in chunk.delta.tool_calls or ()]
    assert [one.index for one in found] == [0, 1]
    assert [{"id": one.id, "type": one.type, "function": one.function.model_dump()} for one in found] == [CALL, OTHER]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]


async def test_the_packages_own_reader_of_streams_puts_the_calls_together(client, working):
    class Weather(BaseModel):
        """The weather."""

        city: str

    job = working(told(CALL), choices=[called(CALL)])
    offered = openai.pydantic_function_tool(Weather, name="get_weather")
    async with client.chat.completions.stream(model="fin.sa", messages=QUESTION, tools=[offered]) as stream:
        done = await stream.get_final_completion()
    (one,) = done.choices[0].message.tool_calls
    assert one.function.parsed_arguments == Weather(city="Paris")
    assert (await job).body["params"]["tools"][0]["function"]["strict"] is True


async def test_what_no_event_told_comes_with_the_end_and_choices_are_told_apart(client, working):
    choices = [called(CALL, OTHER), {"index": 1, "text": "no need"}, called(OTHER, index=2)]
    job = working(told(CALL, index=0), told(OTHER, index=2), choices=choices)
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, tools=TOOLS, n=3, stream=True)
    found, ends = [], {}
    async for chunk in stream:
        choice = chunk.choices[0]
        found += [(choice.index, one.index, one.function.name) for one in choice.delta.tool_calls or ()]
        ends |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    await job
    assert sorted(found) == [(0, 0, "get_weather"), (0, 1, "now"), (2, 0, "now")]
    assert ends == {0: "tool_calls", 1: "stop", 2: "tool_calls"}


def lost_between(taken, worker, ledger, second):
    """A worker tells a text and a call and is lost; another one tells `second` in its place."""
    job = taken(lease_seconds=0)
    worker.tell(job, "token", text="I look.", attempt=job.attempt)
    worker.tell(job, "tool_call", tool_call={"index": 0, **CALL}, attempt=job.attempt)
    ledger.do(calls.expire(FIN))
    job = ledger.do(calls.acquire_next(FIN, "worker", 15.0))
    worker.tell(job, "restart", attempt=job.attempt)
    worker.tell(job, "token", text="I look.", attempt=job.attempt)
    worker.tell(job, "tool_call", tool_call={"index": 0, **second}, attempt=job.attempt)
    worker.tell(job, "tool_call", tool_call={"index": 1, **OTHER}, attempt=job.attempt)
    worker.end(job, JobState.SUCCEEDED, result={"choices": [called(second, OTHER, text="I look.")]})


async def test_a_worker_that_dies_in_mid_stream_repeats_no_call(client, taken, worker, ledger):
    task = asyncio.create_task(asyncio.to_thread(lost_between, taken, worker, ledger, CALL))
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, tools=TOOLS, stream=True)
    chunks = [chunk.choices[0].delta async for chunk in stream]
    await task
    assert "".join(one.content or "" for one in chunks) == "I look."
    assert [one.id for delta in chunks for one in delta.tool_calls or ()] == [CALL["id"], OTHER["id"]]


async def test_a_second_try_that_calls_otherwise_ends_the_stream(client, taken, worker, ledger):
    other = CALL | {"function": PARIS | {"arguments": '{"city": "Lyon"}'}}
    task = asyncio.create_task(asyncio.to_thread(lost_between, taken, worker, ledger, other))
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, tools=TOOLS, stream=True)
    with pytest.raises(openai.APIError) as caught:
        [chunk async for chunk in stream]
    await task
    assert caught.value.code == "stream_restarted"


async def refused(api, **fields):
    """The error that a request gets; nothing of it reached the ledger."""
    sent = {"model": "fin.sa", "messages": QUESTION} | fields
    response = await api["submit"].post("/v1/chat/completions", json=sent)
    assert response.status_code == 400, response.text
    assert (await api["submit"].get("/v1/jobs")).json()["items"] == []
    return response.json()["error"]


def nested(depth):
    return {"a": nested(depth - 1)} if depth else 1


def function(**fields):
    return [{"type": "function", "function": {"name": "f", **fields}}]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"tools": TOOLS + TOOLS}, "tools", "'get_weather' is there twice"),
        ({"tools": TOOLS[1:] * 10_000}, "tools", "at most 128 items"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type", "'function'"),
        ({"tools": function(name="a b")}, "tools.0.function.name", "pattern"),
        ({"tools": function(description="x" * 20_001)}, "tools.0.function.description", "20000"),
        ({"tools": [function(name=f"f{n}", description="x" * 10_000)[0] for n in range(7)]}, "tools", "65536"),
        ({"tools": function(parameters=nested(40))}, "tools.0.function.parameters", "nested too deeply"),
        ({"tools": function(parameters={"type": "array"})}, "tools.0.function.parameters", "type object"),
        ({"tools": function(cache=True)}, "tools.0.function.cache", "not known"),
        ({"tools": function(parameters={"properties": {"a": {"not": {}}}}), "tool_choice": "required"}, "tools", "not"),
        (
            {"tools": function(parameters={"$ref": "https://a.example/"}), "tool_choice": "required"},
            "tools",
            "not present",
        ),
        ({"tool_choice": "required"}, "tool_choice", "add it to tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice", "'g'"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tool.type", "'function'"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format", "calls no tools"),
        ({"functions": [WEATHER]}, "functions", "write each one into tools"),
        ({"function_call": {"name": "f"}}, "function_call", "tool_choice"),
        ({"tools": TOOLS, "model": "med.qa"}, "tools", "the template 'chatml' writes no tools"),
        ({"messages": [*QUESTION, CALLED, ANSWER], "model": "med.qa"}, "tools", "the template 'chatml'"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_tools_that_cannot_be_offered_are_refused_by_name(api, fields, param, said):
    error = await refused(api, **fields)
    assert error["param"] == param
    assert said in error["message"]


def with_arguments(arguments):
    return [*QUESTION, CALLED | {"tool_calls": [CALL | {"function": PARIS | {"arguments": arguments}}]}, ANSWER]


@pytest.mark.parametrize(
    ("messages", "param", "said"),
    [
        (with_arguments('{"city": '), "messages.1.tool_calls.0.function.arguments", "no JSON"),
        (with_arguments("[1]"), "messages.1.tool_calls.0.function.arguments", "no JSON object"),
        (with_arguments(json.dumps(nested(40))), "messages.1.tool_calls.0.function.arguments", "nested too deeply"),
        (with_arguments('{"a": "\\ud800"}'), "messages.1.tool_calls.0.function.arguments", "no JSON"),
        (with_arguments({"city": "Paris"}), "messages.1.tool_calls.0.function.arguments", "valid string"),
        ([*QUESTION, CALLED], "messages", "has no answer"),
        ([*QUESTION, CALLED, ANSWER | {"tool_call_id": "other"}], "messages", "answers the call 'other'"),
        ([*QUESTION, ANSWER], "messages", "no assistant message right before it"),
        ([*QUESTION, {"role": "tool", "content": "x"}], "messages.1", "needs the tool_call_id"),
        ([QUESTION[0] | {"tool_calls": [CALL]}], "messages.0", "they are the assistant's"),
        ([*QUESTION, {"role": "assistant", "content": None}, *QUESTION], "messages.1", "content is missing"),
        ([*QUESTION, {"role": "function", "name": "f", "content": "x"}], "messages.1.role", "'tool'"),
    ],
    ids=lambda value: str(value)[-40:],
)
async def test_turns_of_tools_that_make_no_sense_are_refused_by_name(api, messages, param, said):
    error = await refused(api, messages=messages)
    assert error["param"] == param
    assert said in error["message"]


async def test_what_offers_and_calls_nothing_is_taken(client, working):
    job = working(choices=[{"text": "yes"}], queue="generate.med")
    said = [*QUESTION, {"role": "assistant", "content": "Well?", "tool_calls": [], "function_call": None}, *QUESTION]
    nothing = {"tools": [], "tool_choice": "auto", "functions": [], "function_call": "none"}
    answer = await client.chat.completions.create(model="med.qa", messages=said, extra_body=nothing)
    assert answer.choices[0].message.content == "yes"
    assert "tools" not in (await job).body["params"]


async def test_a_lone_surrogate_in_a_tool_is_refused(api):
    sent = json.dumps({"model": "fin.sa", "messages": QUESTION, "tools": function(parameters={"a": "\ud800"})})
    headers = {"Content-Type": "application/json"}
    response = await api["submit"].post("/v1/chat/completions", content=sent.encode(), headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tools.0.function.parameters"


async def test_what_only_the_worker_finds_out_is_a_400_with_its_code(api, taken, worker):
    sent = {"model": "fin.sa", "messages": QUESTION, "tools": TOOLS}
    for ended_by in ("tools_not_rendered", "tool_calls_unreadable"):
        asking = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent))
        job = await asyncio.to_thread(taken)
        worker.end(job, JobState.FAILED, error={"code": ended_by, "detail": "no tools", "retryable": False})
        answer = await asking
        assert answer.status_code == 400
        assert answer.json()["error"] | {"message": ""} == {
            "message": "", "type": "invalid_request_error", "param": "tools", "code": ended_by,
        }  # fmt: skip


async def test_our_own_jobs_take_the_same_and_their_events_tell_calls(api, taken, worker):
    sent = {"messages": [*QUESTION, CALLED, ANSWER], "label": "fin.sa"}
    sent["params"] = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "now"}}}
    made = (await api["submit"].post("/v1/jobs", json=sent)).json()
    job = await asyncio.to_thread(taken)
    assert job.body["params"]["tool_choice"]["function"] == {"name": "now"}
    worker.tell(job, "tool_call", tool_call={"index": 0, **OTHER}, attempt=job.attempt)
    worker.end(job, JobState.SUCCEEDED, result={"choices": [called(OTHER)]})
    view = (await api["submit"].get(made["url"])).json()
    assert view["result"]["tool_calls"] == [OTHER]
    assert view["request"]["messages"][1:] == [{"role": "assistant", "tool_calls": [CALL]}, ANSWER]
    events = (await api["submit"].get(made["events_url"])).text
    assert "event: tool_call" in events
    assert OTHER["id"] in events


async def test_our_own_client_offers_tools_and_answers_their_calls(api, tokens, working):
    job = working(told(CALL), choices=[called(CALL)])
    async with AsyncSignalbox(api["url"], tokens["submit"]) as client:
        answer = await client.chat(QUESTION, model="fin.sa", tools=TOOLS)
        (call,) = answer.tool_calls
        await job
        job = working(choices=[{"text": "21"}])
        result = {"role": "tool", "tool_call_id": call.id, "content": "21"}
        again = await client.chat([*QUESTION, answer.message, result], model="fin.sa", tools=TOOLS)
    assert (call.name, call.parsed, again.text) == ("get_weather", {"city": "Paris"}, "21")
    assert (await job).body["messages"][2] == result


async def test_our_own_jobs_refuse_the_same(api):
    post = api["submit"].post
    for fields, said in (
        ({"params": {"tools": TOOLS, "constraint": {"json_object": True}}}, "calls no tools"),
        ({"params": {"tool_choice": "required"}}, "add it to tools"),
        ({"messages": [*QUESTION, CALLED]}, "has no answer"),
    ):
        answer = await post("/v1/jobs", json={"messages": QUESTION, **fields})
        assert code(answer, 422) == "request_invalid"
        assert said in answer.json()["detail"]
    answer = await post("/v1/jobs", json={"input": "hi", "label": "med.qa", "params": {"tools": TOOLS}})
    assert code(answer, 422) == "tools_not_rendered"
    answer = await post("/v1/select", json={"messages": [*QUESTION, CALLED, ANSWER], "wait_seconds": 0})
    assert answer.status_code == 202
