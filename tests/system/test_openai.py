"""An OpenAI client on a whole system: the same answers as by our own API, streamed while they are made."""

import re

import openai
import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope

QUESTION = "the card was swallowed"


@pytest.fixture
def client(released):
    url = f"{released.supervisor.api_url}/v1"
    _, key = api_keys.create(released.redis, frozenset({Scope.SUBMIT, Scope.READ}))
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        yield client


def chat(client, text=QUESTION, **more):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(messages=messages, max_completion_tokens=8, **({"model": "auto"} | more))


def test_a_chat_is_the_same_job_as_by_our_own_api(released, client):
    answer = chat(client)
    job = released.client.wait(released.client.submit(QUESTION, max_new_tokens=8))
    assert answer.choices[0].message.content == job.result["text"]
    assert answer.signalbox["label"] == job.label
    assert answer.signalbox["probability"] == pytest.approx(job.selection.probability, abs=1e-4)
    assert answer.usage.prompt_tokens == job.result["prompt_tokens"]
    mine = released.client.job(answer.signalbox["job"])
    assert (mine.state, mine.id) == ("succeeded", answer.signalbox["job"])


@pytest.mark.parametrize("model", ["bank.cards", "bank.cards@1", "base"])
def test_a_stream_tells_what_the_whole_answer_says(client, model):
    whole = chat(client, model=model).choices[0]
    chunks = list(chat(client, model=model, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason
    assert chunks[-1].signalbox["by"] == "named"


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


def test_an_alias_runs_code_that_asks_for_somebody_elses_model(released, client):
    released.client.set_alias("gpt-4o-mini", "auto")
    answer = chat(client, model="gpt-4o-mini")
    assert (answer.model, answer.signalbox["label"]) == ("gpt-4o-mini", chat(client).signalbox["label"])
    released.client.delete_alias("gpt-4o-mini")


def test_a_long_conversation_loses_its_oldest_turns(client):
    turns = [{"role": role, "content": "the card " * 40} for _ in range(20) for role in ("user", "assistant")]
    messages = [{"role": "system", "content": "Be kind."}, *turns, {"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(model="bank.cards", messages=messages, max_completion_tokens=4)
    assert answer.signalbox["prompt_shortened"]
    assert answer.choices[0].finish_reason in ("stop", "length")
