"""An OpenAI client on a whole system: the same answers as by our own API, streamed while they are made.

These tests import `openai`, `httpx` and pytest alone. They speak to the system that SIGNALBOX_API_URL
and SIGNALBOX_API_KEY name, by which `make test-openai2` runs them under the package's version 2, or start one.
"""

import asyncio
import os
import re
from typing import NamedTuple

import httpx
import openai
import pytest

QUESTION = "the card was swallowed"


class Server(NamedTuple):
    """Where the system is, and an administrator's key."""

    url: str
    key: str


@pytest.fixture
def server(request):
    if url := os.environ.get("SIGNALBOX_API_URL"):
        return Server(url, os.environ["SIGNALBOX_API_KEY"])
    from shared.security import api_keys

    system = request.getfixturevalue("released")
    _, key = api_keys.create(system.redis, frozenset({api_keys.Scope.ADMIN}))
    return Server(system.supervisor.api_url, key)


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as client:
        yield client


@pytest.fixture
def ours(server):
    """A client of our own API, which needs nothing of this project."""
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client


def asked(text=QUESTION, **more):
    return {"model": "auto", "messages": [{"role": "user", "content": text}], "max_completion_tokens": 8} | more


def chat(client, text=QUESTION, **more):
    return client.chat.completions.create(**asked(text, **more))


# Chats.


def test_a_chat_is_the_same_job_as_by_our_own_api(client, ours):
    answer = chat(client)
    accepted = ours.post("/v1/jobs", json={"input": QUESTION, "params": {"max_new_tokens": 8}}).json()
    ours.get(accepted["events_url"])  # it ends with the job
    job = ours.get(accepted["url"]).json()
    assert answer.choices[0].message.content == job["result"]["text"]
    assert answer.signalbox["label"] == job["label"]
    assert answer.signalbox["probability"] == pytest.approx(job["selection"]["probability"], abs=1e-4)
    assert answer.signalbox["why"].startswith(job["label"] or "no label is sure enough")
    assert answer.usage.prompt_tokens == job["result"]["prompt_tokens"]
    mine = ours.get(f"/v1/jobs/{answer.signalbox['job']}").json()
    assert (mine["state"], mine["id"]) == ("succeeded", answer.signalbox["job"])


@pytest.mark.parametrize("model", ["bank.cards", "bank.cards@1", "base"])
def test_a_stream_tells_what_the_whole_answer_says(client, model):
    whole = chat(client, model=model).choices[0]
    chunks = list(chat(client, model=model, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason
    assert chunks[-1].signalbox["by"] == "named"


def test_the_asynchronous_client_streams_the_same(server, client):
    async def told():
        url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=server.key, max_retries=0) as asynchronous:
            stream = await asynchronous.chat.completions.create(**asked(model="bank.cards", stream=True))
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(told()) == chat(client, model="bank.cards").choices[0].message.content


def test_the_raw_answer_names_its_job(client):
    raw = client.chat.completions.with_raw_response.create(**asked(model="bank.cards"))
    assert raw.headers["x-request-id"] == raw.parse().signalbox["job"]


def test_several_choices_are_drawn_apart_and_again_the_same(client):
    asked = {"n": 3, "seed": 5, "temperature": 1.5, "logprobs": True, "top_logprobs": 2, "model": "bank.cards"}
    first, second = chat(client, **asked), chat(client, **asked)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    for choice in first.choices:
        shown = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
        shown = re.sub(rb"<\|[a-z_]+\|>", b"", shown)  # control tokens are told by name, and show no text
        assert shown.decode(errors="replace").startswith(choice.message.content.rstrip("\ufffd"))
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def test_a_stream_of_choices_tells_each_whole(client):
    asked = {"n": 2, "seed": 5, "temperature": 1.5, "logprobs": True, "model": "bank.cards"}
    whole = chat(client, **asked)
    texts, tokens = {0: "", 1: ""}, {0: 0, 1: 0}
    for chunk in chat(client, **asked, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        tokens[choice.index] += len(choice.logprobs.content) if choice.logprobs else 0
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert tokens == {choice.index: len(choice.logprobs.content) for choice in whole.choices}


def test_a_long_conversation_loses_its_oldest_turns(client):
    turns = [{"role": role, "content": "the card " * 40} for _ in range(20) for role in ("user", "assistant")]
    messages = [{"role": "system", "content": "Be kind."}, *turns, {"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(model="bank.cards", messages=messages, max_completion_tokens=4)
    assert answer.signalbox["prompt_shortened"]
    assert answer.choices[0].finish_reason in ("stop", "length")


# Completions.


def test_a_completion_is_answered_whole_streamed_and_for_several_prompts(client):
    asked = {"model": "bank.cards", "max_tokens": 6}
    one = client.completions.create(prompt=QUESTION, **asked)
    chunks = list(client.completions.create(prompt=QUESTION, **asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == one.choices[0].text
    both = client.completions.create(prompt=[QUESTION, "a new card"], **asked)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == one.choices[0].text


# Models and their names.


def test_the_models_are_listed_and_each_is_found(client):
    names = [model.id for model in client.models.list()]
    assert {"auto", "base", "bank.cards", "bank.cards@1"} <= set(names)
    assert client.models.retrieve("bank.cards").signalbox["label"] == "bank.cards"


def test_an_alias_runs_code_that_asks_for_somebody_elses_model(client, ours):
    ours.put("/v1/aliases", json={"alias": "gpt-4o-mini", "model": "auto"}).raise_for_status()
    answer = chat(client, model="gpt-4o-mini")
    assert (answer.model, answer.signalbox["label"]) == ("gpt-4o-mini", chat(client).signalbox["label"])
    ours.delete("/v1/aliases/gpt-4o-mini").raise_for_status()


def test_a_refusal_is_an_error_of_the_package(client):
    with pytest.raises(openai.NotFoundError) as unknown:
        chat(client, model="gpt-none")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, modalities=["audio"])
    assert refused.value.param == "modalities"
