"""Structured answers over the API: what is refused before anything is queued, and what the `openai` package reads."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.echo import EchoEngine
from shared.contracts.generation import generation_body
from shared.contracts.jobs import JobState
from shared.contracts.prompts import Part, Segment
from shared.ledger import calls

QUESTION = [{"role": "user", "content": "did the stock rise?"}]
BOMB = {
    "allOf": [
        {"anyOf": [{"type": "object", "properties": {f"{n}_{m}": {}}} for m in range(6)]} for n in range(9)
    ]
}  # fmt: skip


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
def answering(broker, ledger, worker):
    """Answers the next job by the echo engine, as a worker does; returns the job."""

    def run():
        assert broker.brpop(["generate.fin"], timeout=30)
        job = ledger.do(calls.acquire_next("generate.fin", "worker", 15.0))
        params = generation_body(job).params
        request = GenerationRequest(
            job.id,
            1,
            [Segment(Part.USER, "x", is_input=True)],
            None,
            params.max_new_tokens,
            constraint=params.constraint,
        )
        found = EchoEngine().generate(request, lambda _: None)
        worker.end(job, JobState.SUCCEEDED, result={"text": found.text, "finish_reason": found.finish_reason})
        return job

    return lambda: asyncio.create_task(asyncio.to_thread(run))


class Trade(BaseModel):
    kind: str
    amount: int
    tags: list[str]
    note: str | None


async def test_the_openai_package_parses_an_answer_into_a_model(api, tokens, answering):
    job = answering()
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as client:
        answer = await client.chat.completions.parse(model="fin.sa", messages=QUESTION, response_format=Trade)
    message = answer.choices[0].message
    assert isinstance(message.parsed, Trade)
    assert message.refusal is None
    schema = json.loads(generation_body(await job).params.constraint.json_schema)
    assert list(schema["properties"]) == ["kind", "amount", "tags", "note"]


@pytest.mark.parametrize(
    ("given", "constraint"),
    [
        ({"type": "text"}, "none"),
        ({"type": "json_object"}, {"json_object": True}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": None}, "strict": False}},
            {"json_schema": '{"const":null}'},
        ),
    ],
)
async def test_each_response_format_is_a_constraint_of_our_own(api, answering, given, constraint):
    job = answering()
    sent = {"model": "fin.sa", "messages": QUESTION, "response_format": given, "max_tokens": 20}
    if constraint == "none":
        response = await api["submit"].post("/v1/chat/completions", json=sent, headers={"Prefer": "respond-async"})
        job.cancel()
        shown = (await api["submit"].get(response.headers["Location"])).json()["request"]
        assert shown["params"]["constraint"] == "none"
        return
    assert (await api["submit"].post("/v1/chat/completions", json=sent)).status_code == 200
    assert (await job).body["params"]["constraint"] == constraint


REFUSED = {
    "a schema bomb": ({"json_schema": BOMB}, "json_schema"),
    "a remote schema": ({"json_schema": {"$ref": "http://127.0.0.1:1/x"}}, "json_schema"),
    "a word that is not kept to": ({"json_schema": {"not": {}}}, "Unimplemented"),
    "too many choices": ({"choices": [str(n) for n in range(10_000)]}, "1000 items"),
    "a catastrophic pattern": ({"regex": "(?=(a+)+$)b"}, "look-ahead"),
    "a grammar that is none": ({"grammar": "start: ("}, "params.constraint.grammar"),
    "two at once": ({"regex": "a", "choices": ["a"]}, "exactly one"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_constraint_that_cannot_be_kept_to_is_refused_before_anything_is_queued(api, name):
    constraint, why = REFUSED[name]
    response = await api["submit"].post("/v1/jobs", json={"input": "x", "params": {"constraint": constraint}})
    assert response.status_code == 422, response.text
    assert why in response.json()["detail"]
    assert (await api["submit"].get("/v1/jobs")).json()["items"] == []


@pytest.mark.parametrize(
    "schema", [BOMB, {"$ref": "http://127.0.0.1:1/x"}, {"type": "nonsense"}, {"enum": ["x" * 60_000]}]
)
async def test_openais_clients_get_a_400_that_names_the_field(api, schema):
    sent = {
        "model": "fin.sa",
        "messages": QUESTION,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    }
    response = await api["submit"].post("/v1/chat/completions", json=sent)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"].startswith("response_format")
    assert error["message"]
    assert (await api["submit"].get("/v1/jobs")).json()["items"] == []


@pytest.mark.parametrize("given", [{"type": "xml"}, {"type": "json_schema"}, "json", {"type": "json_object", "x": 1}])
async def test_an_unknown_format_is_refused(api, given):
    sent = {"model": "fin.sa", "messages": QUESTION, "response_format": given}
    response = await api["submit"].post("/v1/chat/completions", json=sent)
    assert (response.status_code, response.json()["error"]["param"].split(".")[0]) == (400, "response_format")


async def test_completions_take_no_format(api):
    sent = {"model": "fin.sa", "prompt": "x", "response_format": {"type": "json_object"}}
    response = await api["submit"].post("/v1/completions", json=sent)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")


async def test_a_lost_compiling_process_is_a_503_and_the_api_lives(api, monkeypatch):
    monkeypatch.setattr("shared.constraints.checker._PROGRAM", "/nowhere/program.py")
    sent = {"input": "x", "params": {"constraint": {"regex": "a"}}}
    response = await api["submit"].post("/v1/jobs", json=sent)
    assert (response.status_code, response.json()["code"]) == (503, "constraint_check_lost")
    monkeypatch.undo()
    assert (await api["submit"].post("/v1/jobs", json=sent | {"label": "fin.sa"})).status_code == 202
