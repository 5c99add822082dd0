"""`/v1/chat/completions` and `/v1/completions`, asked by the `openai` package and by hand."""

import asyncio
import contextlib
import json

import openai
import pytest

from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.security import api_keys
from tests.support.eventually import eventually

QUESTION = [{"role": "user", "content": "did the stock rise?"}]
FIN = "generate.fin"


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
async def client(api, tokens):
    made = openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0)
    async with made as client:
        yield client


@pytest.fixture
def taken(broker, ledger):
    """Waits for a queue's message and takes the next job, as a worker does."""

    def take(queue=FIN, lease_seconds=15.0):
        assert broker.brpop([queue], timeout=30)
        return ledger.do(calls.acquire_next(queue, "worker", lease_seconds))

    return take


@pytest.fixture
def working(taken, worker):
    """A worker that answers the queue's next job with these texts, beside the block; gives the job."""

    @contextlib.asynccontextmanager
    async def work(*texts, queue=FIN, **result):
        def run():
            job = taken(queue)
            for text in texts:
                worker.tell(job, "token", text=text, attempt=job.attempt)
            flat = {"text": "".join(texts), "finish_reason": "stop", "prompt_tokens": 7, "generated_tokens": 3}
            told = {} if "choices" in result else flat
            worker.end(job, JobState.SUCCEEDED, result=told | result)
            return job

        task = asyncio.create_task(asyncio.to_thread(run))
        yield task
        await task

    return work


def body(job):
    """The job's request as a caller of our own API would have written it."""
    return {name: value for name, value in job.body.items() if name not in ("priority", "metadata", "tells_tokens")}


async def refused(api, status=400, path="/v1/chat/completions", **fields):
    """The error that a request gets; nothing of it reached the ledger."""
    sent = {"model": "fin.sa", "messages": QUESTION} | fields if "chat" in path else {"model": "fin.sa"} | fields
    response = await api["submit"].post(path, json=sent)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["x-should-retry"] == "false"
    assert (await api["submit"].get("/v1/jobs")).json()["items"] == []
    return error


async def streamed_error(client, work):
    """The code of the error that ends a stream, while a worker does this work."""
    task = asyncio.create_task(asyncio.to_thread(work))
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError) as caught:
        [chunk async for chunk in stream]
    await task
    return caught.value.code


async def test_a_chat_is_answered_by_the_label_that_it_names(client, working, release):
    async with working("posi", "tive", label="fin.sa", base_model="tiny") as job:
        raw = await client.chat.completions.with_raw_response.create(model="fin.sa", messages=QUESTION)
    answer, job = raw.parse(), await job
    assert (raw.headers["x-request-id"], answer.id) == (job.id, f"chatcmpl-{job.id.removeprefix('job_')}")
    assert answer.choices[0].message.content == "positive"
    assert (answer.choices[0].finish_reason, answer.model, answer.service_tier) == ("stop", "fin.sa", "default")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 3, 10)
    assert answer.system_fingerprint == f"{release.id}-tiny"
    facts = answer.signalbox
    assert (facts["job"], facts["label"], facts["by"], facts["release"]) == (job.id, "fin.sa", "named", release.id)
    assert body(job)["messages"] == QUESTION


async def test_what_a_request_says_of_sampling_reaches_the_job(client, working):
    async with working("x") as job:
        await client.chat.completions.create(
            model="fin.sa@1",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
                *QUESTION,
            ],
            max_completion_tokens=5,
            temperature=0.5,
            top_p=0.9,
            seed=3,
            stop="\n",
            service_tier="flex",
            metadata={"team": "a"},
            store=False,
            tools=[],
            response_format={"type": "text"},
        )
    job = await job
    assert job.body == {
        "messages": [{"role": "system", "content": "Be brief.\n\nBe kind."}, *QUESTION],
        "adapter": "fin.sa@1",
        "params": {
            "max_new_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 3,
            "stop": ["\n"],
            "logprobs": False,
            "constraint": "none",
        },
        "priority": "batch",
        "metadata": {"team": "a"},
        "tells_tokens": False,
    }


async def test_auto_is_the_selectors_choice(client, taken, worker, ledger):
    async def select():
        job = await asyncio.to_thread(taken, "select")
        selection = {"label": "fin.ha", "probability": 0.9, "by": "light", "runners_up": []}
        ledger.do(calls.route(job, queue=FIN, label="fin.ha", selection=selection, events=[]))
        job = ledger.do(calls.acquire_next(FIN, "worker", 15.0))
        worker.end(job, JobState.SUCCEEDED, result={"text": "up", "label": "fin.ha"})

    selecting = asyncio.create_task(select())
    answer = await client.chat.completions.create(model="auto", messages=QUESTION)
    await selecting
    assert answer.choices[0].message.content == "up"
    assert answer.signalbox["label"] == "fin.ha"
    assert (answer.signalbox["probability"], answer.signalbox["by"]) == (0.9, "light")
    assert answer.signalbox["why"] == "fin.ha with 0.90: light decided"


async def test_base_is_the_base_model_alone(client, working):
    async with working("hello", queue="generate.base") as job:
        answer = await client.chat.completions.create(model="base", messages=QUESTION)
    assert (await job).label == ""
    assert (await job).body["params"]["max_new_tokens"] == 256
    assert (answer.signalbox["label"], answer.signalbox["by"]) == (None, "named")


async def test_a_stream_tells_role_text_end_and_usage(client, working):
    async with working("posi", "tive", label="fin.sa"):
        stream = await client.chat.completions.create(
            model="fin.sa", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    first, *middle, end, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content for chunk in middle) == "positive"
    assert (end.choices[0].finish_reason, end.signalbox["label"]) == ("stop", "fin.sa")
    assert (usage.choices, usage.usage.total_tokens) == ([], 10)
    assert {chunk.id for chunk in chunks} == {first.id}
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_stream_ends_with_done_and_is_not_buffered(api, working):
    sent = {"model": "fin.sa", "messages": QUESTION, "stream": True}
    async with working("yes"):
        response = await api["submit"].post("/v1/chat/completions", json=sent)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.text.endswith("data: [DONE]\n\n")


async def test_a_worker_that_dies_in_mid_stream_repeats_no_text(client, taken, worker, ledger):
    def work():
        job = taken(lease_seconds=0)
        worker.tell(job, "token", text="posi", attempt=job.attempt)
        ledger.do(calls.expire(FIN))
        job = ledger.do(calls.acquire_next(FIN, "worker", 15.0))
        worker.tell(job, "restart", attempt=job.attempt)
        worker.tell(job, "token", text="pos", attempt=job.attempt)
        worker.tell(job, "token", text="itive", attempt=job.attempt)
        worker.end(job, JobState.SUCCEEDED, result={"text": "positive"})

    task = asyncio.create_task(asyncio.to_thread(work))
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    await task
    assert "".join(texts) == "positive"


async def test_a_stream_whose_second_try_answers_otherwise_ends_with_an_error(client, taken, worker, ledger):
    def work():
        job = taken(lease_seconds=0)
        worker.tell(job, "token", text="posi", attempt=job.attempt)
        ledger.do(calls.expire(FIN))
        job = ledger.do(calls.acquire_next(FIN, "worker", 15.0))
        worker.tell(job, "restart", attempt=job.attempt)
        worker.tell(job, "token", text="nega", attempt=job.attempt)
        worker.end(job, JobState.SUCCEEDED, result={"text": "negative"})

    assert await streamed_error(client, work) == "stream_restarted"


async def test_a_stream_that_the_server_cannot_tell_ends_with_an_error(client, taken, worker):
    def work():
        job = taken()
        worker.tell(job, "token", text="x", index=5, attempt=job.attempt)  # of a choice that nobody asked for
        worker.end(job, JobState.SUCCEEDED, result={"text": "x"})

    assert await streamed_error(client, work) == "internal_error"


async def test_a_server_that_stops_says_so_and_leaves_no_job_behind(api, taken, ledger):
    sent = {"model": "fin.sa", "messages": QUESTION}
    asking = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent))
    job = await asyncio.to_thread(taken)
    await api["app"].state.clients.feed.close()
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "api_stopping")
    assert answer.headers["x-should-retry"] == "true"
    asks = calls.get(job.id, "default")
    await asyncio.to_thread(eventually, lambda: ledger.do(asks).cancel_requested, "cancelled")


async def test_a_completion_is_a_text(client, working):
    async with working("positive"):
        answer = await client.completions.create(model="fin.sa", prompt="did it rise?", max_tokens=4)
    assert (answer.object, answer.choices[0].text) == ("text_completion", "positive")


async def test_a_completion_streams(client, working):
    async with working("posi", "tive"):
        stream = await client.completions.create(model="fin.sa", prompt=["did it rise?"], stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "positive"
    assert chunks[-1].choices[0].finish_reason == "stop"


LOGPROBS = {
    "token_ids": [5, 6],
    "logprobs": [-0.1, -0.2],
    "token_bytes": ["c3", "a96e"],
    "top": [[{"token_id": 5, "logprob": -0.1, "bytes": "c3"}, {"token_id": 7, "logprob": -3.0, "bytes": "78"}], []],
}


async def test_several_choices_and_their_logprobs_come_in_openais_form(client, working):
    choices = [
        {"index": 0, "text": "\u00e9n", "logprobs": LOGPROBS},
        {"index": 1, "text": "x", "finish_reason": "length"},
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    async with working(choices=choices, usage=usage) as job:
        answer = await client.chat.completions.create(
            model="fin.sa", messages=QUESTION, n=2, logprobs=True, top_logprobs=2, logit_bias={"9": -5},
            presence_penalty=0.5, frequency_penalty=-0.5,
        )  # fmt: skip
    params = (await job).body["params"]
    assert params == {
        "max_new_tokens": 256, "n": 2, "temperature": 1.0,
        "logprobs": True, "top_logprobs": 2, "logit_bias": {"9": -5.0},
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "stop": [],
    }  # fmt: skip
    assert [(one.index, one.message.content, one.finish_reason) for one in answer.choices] == [
        (0, "\u00e9n", "stop"), (1, "x", "length"),
    ]  # fmt: skip
    first, second = answer.choices[0].logprobs.content
    assert (first.token, first.bytes, first.logprob) == ("\ufffd", [0xC3], -0.1)
    assert [(top.token, top.bytes, top.logprob) for top in first.top_logprobs] == [
        ("\ufffd", [0xC3], -0.1), ("x", [0x78], -3.0),
    ]  # fmt: skip
    assert (second.bytes, second.top_logprobs) == ([0xA9, 0x6E], [])
    assert answer.choices[1].logprobs is None


async def test_a_stream_tells_the_choices_apart_and_each_tokens_logprobs(client, taken, worker):
    def work():
        job = taken()
        worker.tell(job, "token", text="yes", index=1, attempt=job.attempt)
        one = {"token_ids": [5], "logprobs": [-0.1], "token_bytes": ["6e6f"], "top": []}
        worker.tell(job, "token", text="no", logprobs=one, attempt=job.attempt)
        worker.tell(job, "token", text="", logprobs=one | {"token_bytes": [""]}, attempt=job.attempt)
        choices = [{"index": 0, "text": "no"}, {"index": 1, "text": "yes", "finish_reason": "length"}]
        worker.end(job, JobState.SUCCEEDED, result={"choices": choices})

    task = asyncio.create_task(asyncio.to_thread(work))
    stream = await client.chat.completions.create(model="fin.sa", messages=QUESTION, n=2, logprobs=True, stream=True)
    texts, tokens, ends = {0: "", 1: ""}, [], {}
    async for chunk in stream:
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        tokens += [token.token for token in choice.logprobs.content] if choice.logprobs else []
        ends |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    await task
    assert (texts, tokens, ends) == ({0: "no", 1: "yes"}, ["no", ""], {0: "stop", 1: "length"})


async def test_a_completions_logprobs_are_parallel_lists(client, working):
    choices = [{"index": 0, "text": "\u00e9n", "logprobs": LOGPROBS}]
    async with working(choices=choices):
        answer = await client.completions.create(model="fin.sa", prompt="x", logprobs=2)
    found = answer.choices[0].logprobs
    assert (found.tokens, found.token_logprobs, found.text_offset) == (["\ufffd", "\ufffdn"], [-0.1, -0.2], [0, 1])
    assert found.top_logprobs[0] == {"\ufffd": -0.1, "x": -3.0}


@pytest.fixture
def answering(taken, worker):
    """Answers so many jobs by their own texts, with two choices each where these are asked for."""

    def work(count):
        for _ in range(count):
            job = taken()
            text = job.body["messages"][-1]["content"]
            choices = [{"index": n, "text": f"{text}{n}"} for n in range(job.body["params"].get("n") or 1)]
            usage = {"prompt_tokens": 2, "completion_tokens": 3}
            worker.end(job, JobState.SUCCEEDED, result={"choices": choices, "usage": usage, "label": "fin.sa"})

    return lambda count: asyncio.create_task(asyncio.to_thread(work, count))


async def test_several_prompts_are_answered_in_their_order(client, answering):
    task = answering(3)
    answer = await client.completions.create(model="fin.sa", prompt=["a", "b", "c"], n=2)
    await task
    assert [(one.index, one.text) for one in answer.choices] == list(enumerate(["a0", "a1", "b0", "b1", "c0", "c1"]))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (6, 15)
    jobs = [facts["job"] for facts in answer.signalbox["prompts"]]
    assert len(set(jobs)) == 3
    assert answer.id == f"cmpl-{jobs[0].removeprefix('job_')}"


async def test_several_prompts_under_one_idempotency_key_are_answered_once(client, answering):
    task = answering(2)
    asked = {"model": "fin.sa", "prompt": ["a", "b"], "extra_headers": {"Idempotency-Key": "once"}}
    first = await client.completions.create(**asked)
    await task
    second = await client.completions.create(**asked)
    assert (second.id, second.choices) == (first.id, first.choices)


async def test_where_one_of_several_prompts_is_refused_the_others_are_cancelled(api, settings, ledger):
    sent = {"model": "fin.sa", "prompt": ["a", "x" * (settings.max_input_chars + 1)]}
    answer = await api["submit"].post("/v1/completions", json=sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "input_too_long")
    (job,) = (await api["submit"].get("/v1/jobs")).json()["items"]
    asks = calls.get(job["id"], "default")
    await asyncio.to_thread(eventually, lambda: ledger.do(asks).state == JobState.CANCELLED, "cancelled")


async def test_a_client_that_leaves_cancels_the_jobs_of_all_its_prompts(api, taken, ledger):
    asking = asyncio.create_task(api["submit"].post("/v1/completions", json={"model": "fin.sa", "prompt": ["a", "b"]}))
    jobs = [await asyncio.to_thread(taken) for _ in range(2)]
    asking.cancel()
    for job in jobs:
        asks = calls.get(job.id, "default")
        await asyncio.to_thread(eventually, lambda asks=asks: ledger.do(asks).cancel_requested, "cancelled")


@pytest.mark.parametrize(
    ("more", "headers"), [({"stream": True}, {}), ({}, {"Prefer": "respond-async"}), ({"prompt": ["x"] * 9}, {})]
)
async def test_several_prompts_are_told_whole_and_are_eight_at_most(api, more, headers):
    sent = {"model": "fin.sa", "prompt": ["a", "b"], **more}
    answer = await api["submit"].post("/v1/completions", json=sent, headers=headers)
    assert answer.status_code == 400
    assert "prompt" in answer.json()["error"]["message"] or answer.json()["error"]["param"] == "prompt"


async def test_an_unknown_model_is_a_404_that_says_how_to_map_it(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    error = caught.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "not_found_error")
    assert "signalbox models alias gpt-4o-mini auto" in error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("audio", {"voice": "a", "format": "mp3"}),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "high"),
        ("store", True),
        ("web_search_options", {}),
        ("n", 9),
        ("seed", 1 << 63),
        ("temperature", 2.1),
        ("service_tier", "scale"),
        ("logit_bias", {str(token): 1 for token in range(10_000)}),
        ("no_such_field", 1),
    ],
)
async def test_a_field_that_is_not_honoured_is_named(api, field, value):
    error = await refused(api, **{field: value})
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("field", ["suffix", "echo", "best_of"])
async def test_a_completions_field_that_is_not_honoured_is_named(api, field):
    value = {"suffix": "x", "echo": True, "best_of": 2}[field]
    error = await refused(api, path="/v1/completions", prompt="x", **{field: value})
    assert error["param"] == field


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "at least 1 item"),
        ([{"role": "user", "content": " "}], "empty"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "end with the user message"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "only the first message"),
        ([{"role": "function", "name": "f", "content": "a"}], "'assistant' or 'tool'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "'text'"),
        ([{"role": "user", "content": "a", "name": "bob"}], "names of participants"),
        ([{"role": "user", "content": "a"}] * 1001, "at most 1000"),
    ],
)
async def test_messages_that_cannot_be_answered_are_refused(api, messages, said):
    error = await refused(api, messages=messages)
    assert said in error["message"]


async def test_a_lone_surrogate_is_refused(api):
    content = b'{"model": "fin.sa", "messages": [{"role": "user", "content": "a\\ud800"}]}'
    response = await api["submit"].post(
        "/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert "Unicode" in response.json()["error"]["message"]


async def test_a_client_that_leaves_cancels_its_job(api, taken, ledger):
    sent = {"model": "fin.sa", "messages": QUESTION}
    for stream in (False, True):
        asking = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent | {"stream": stream}))
        job = await asyncio.to_thread(taken)
        asking.cancel()
        asks = calls.get(job.id, "default")
        await asyncio.to_thread(eventually, lambda asks=asks: ledger.do(asks).cancel_requested, "cancelled")


async def test_a_client_that_leaves_and_returns_by_its_key_gets_the_same_answer(api, taken, worker):
    sent = {"model": "fin.sa", "messages": QUESTION}
    headers = {"Idempotency-Key": "once"}
    asking = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent, headers=headers))
    job = await asyncio.to_thread(taken)
    asking.cancel()
    again = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent, headers=headers))
    worker.end(job, JobState.SUCCEEDED, result={"text": "positive"})
    answer = await again
    assert answer.json()["choices"][0]["message"]["content"] == "positive"
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.headers["x-request-id"] == job.id


async def test_an_answer_that_is_sent_whole_has_no_token_events_and_a_retry_may_stream_it(api, taken, worker):
    sent = {"model": "fin.sa", "messages": QUESTION, "logprobs": True}
    headers = {"Idempotency-Key": "once"}
    asking = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent, headers=headers))
    job = await asyncio.to_thread(taken)
    assert job.body["tells_tokens"] is False
    assert "tells_tokens" not in (await api["submit"].get(f"/v1/jobs/{job.id}")).json()["request"]
    logprobs = {"token_ids": [5], "logprobs": [-0.1], "token_bytes": ["6e6f"], "top": []}
    worker.end(job, JobState.SUCCEEDED, result={"choices": [{"index": 0, "text": "no", "logprobs": logprobs}]})
    whole = (await asking).json()["choices"][0]
    streamed = await api["submit"].post("/v1/chat/completions", json=sent | {"stream": True}, headers=headers)
    assert streamed.headers["x-request-id"] == job.id
    chunks = [json.loads(line[6:])["choices"][0] for line in streamed.text.splitlines() if line.startswith("data: {")]
    assert [chunk["delta"].get("content") for chunk in chunks] == ["", whole["message"]["content"], None]
    assert chunks[1]["logprobs"] == whole["logprobs"]


async def test_respond_async_answers_with_the_job(api, ledger):
    sent = {"model": "fin.sa", "messages": QUESTION}
    answer = await api["submit"].post("/v1/chat/completions", json=sent, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        (JobState.FAILED, {"code": "deadline_exceeded", "detail": "late", "retryable": False}, 504),
        (JobState.FAILED, {"code": "engine_stopped", "detail": "gone", "retryable": True}, 503),
        (JobState.FAILED, {"code": "internal_error", "detail": "bug", "retryable": False}, 500),
        (JobState.FAILED, {"code": "prompt_too_large", "detail": "too large", "retryable": False}, 400),
    ],
)
async def test_a_job_that_ends_badly_is_an_error_of_its_kind(api, taken, worker, state, error, status):
    sent = {"model": "fin.sa", "messages": QUESTION}
    asking = asyncio.create_task(api["submit"].post("/v1/chat/completions", json=sent))
    job = await asyncio.to_thread(taken)
    worker.end(job, state, error=error)
    answer = await asking
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == error["code"]


async def test_without_a_key_or_at_an_unknown_path_errors_have_openais_form(api):
    answer = await api["anonymous"].post("/v1/chat/completions", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    for path in ("/v1/embeddings", "/v1/no/such/path"):
        answer = await api["submit"].post(path, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "path_not_found")


async def test_a_stream_with_a_pause_is_kept_alive_by_comments(api, taken, worker, monkeypatch):
    monkeypatch.setattr("services.api.openai.wire.COMMENT_SECONDS", 0.05)
    sent = {"model": "fin.sa", "messages": QUESTION, "stream": True}
    async with api["submit"].stream("POST", "/v1/chat/completions", json=sent) as response:
        lines = response.aiter_lines()
        async for line in lines:
            if line.startswith(":"):
                break
        job = await asyncio.to_thread(taken)
        worker.end(job, JobState.SUCCEEDED, result={"text": "ok"})
        told = [json.loads(line[6:]) async for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in told) == "ok"


async def test_a_key_with_limits_is_told_what_is_left(api, ledger):
    _, token = api_keys.create(
        ledger.redis, frozenset({api_keys.Scope.SUBMIT}), requests_per_minute=5, tokens_per_minute=1000
    )
    sent = {"model": "fin.sa", "messages": QUESTION, "max_completion_tokens": 10}
    headers = {"Prefer": "respond-async", "Authorization": f"Bearer {token}"}
    for left in (4, 3):
        answer = await api["anonymous"].post("/v1/chat/completions", json=sent, headers=headers)
        assert answer.headers["x-ratelimit-limit-requests"] == "5"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - 2 * (10 + 5))
