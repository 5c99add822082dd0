"""`/v1/batches`, asked by the `openai` package; its worker's loop runs beside the API."""

import asyncio
import json
import time

import openai
import pytest

from services.api.batches import sweep as sweeping
from services.api.batches.input import InputFile
from shared.contracts.batches import PART_LINES, folder_of, job_id_of
from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.api import client_of, code, serving
from tests.support.batches import CHATS, answering, batch_worker, chat_line, jsonl
from tests.support.eventually import eventually

ENDED = {"failed", "completed", "expired", "cancelled"}


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


@pytest.fixture
async def client(api, tokens):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as client:
        yield client


@pytest.fixture
async def working(api):
    async with batch_worker(api["app"].state.clients):
        yield


async def submit(client, content, endpoint=CHATS, **more):
    content = content if isinstance(content, bytes) else jsonl(content)
    file = await client.files.create(file=("rows.jsonl", content), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


async def until(client, batch_id, states=ENDED):
    async with asyncio.timeout(30):
        while True:
            batch = await client.batches.retrieve(batch_id)
            if batch.status in states:
                return batch
            await asyncio.sleep(0.05)  # its states are told by asking


async def lines(client, file_id):
    text = (await client.files.content(file_id)).text if file_id else ""
    return [json.loads(line) for line in text.splitlines()]


async def test_every_line_is_answered_in_the_output_file(client, working, settings, store, ledger):
    rows = [chat_line(number, f"text {number}", metadata={"row": str(number)}) for number in range(PART_LINES + 5)]
    with answering(settings):
        made = await submit(client, rows, metadata={"for": "test"})
        assert (made.status, made.object, made.metadata) == ("validating", "batch", {"for": "test"})
        batch = await until(client, made.id)
    assert batch.status == "completed", batch
    assert (batch.request_counts.total, batch.request_counts.completed) == (len(rows), len(rows))
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at <= batch.expires_at
    assert (batch.error_file_id, batch.model) == (None, "fin.sa")
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (7 * len(rows), 3 * len(rows))
    told = await lines(client, batch.output_file_id)
    assert [one["custom_id"] for one in told] == [row["custom_id"] for row in rows]
    first = told[0]
    assert set(first) == {"id", "custom_id", "response", "error"}
    assert first["id"].startswith("batch_req_")
    assert first["response"]["status_code"] == 200
    answer = openai.types.chat.ChatCompletion.model_validate(first["response"]["body"])
    assert answer.choices[0].message.content == "re: text 0"
    assert first["response"]["body"]["metadata"] == {"row": "0"}
    assert first["response"]["request_id"] == job_id_of(made.id, 1)
    output = await client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{made.id}_output.jsonl")
    assert store.keys(folder_of("default", made.id)) == []  # what was in between is gone
    assert ledger.redis.zcard(LedgerKey.JOBS.of("default")) == 0  # and the jobs are forgotten
    assert ledger.redis.hget(LedgerKey.HELD, "default") == "0"
    for key in (LedgerKey.FOUND, LedgerKey.KEPT, LedgerKey.EVENTS, LedgerKey.JOB):
        assert ledger.redis.keys(key.pattern) == []


async def test_jobs_of_a_batch_wait_behind_interactive_ones(client, working, ledger):
    made = await submit(client, [chat_line(1)])
    await until(client, made.id, {"in_progress"})
    seen = await asyncio.to_thread(
        eventually, lambda: ledger.do(calls.list_jobs("default", include=["body"])).jobs, "a job"
    )
    (job,) = seen
    assert job.body["priority"] == "batch"
    assert 86_000 < (ledger.do(calls.get(job.id)).deadline_ms / 1000 - time.time()) <= 86_400


async def test_a_lines_user_is_kept_as_a_hash_by_which_it_is_forgotten(api, client, working, ledger):
    made = await submit(client, [chat_line(1, user="ann@example.org")])
    await until(client, made.id, {"in_progress"})
    asks = calls.list_jobs("default", include=["body"])
    (job,) = await asyncio.to_thread(eventually, lambda: ledger.do(asks).jobs, "a job")
    counted = await api["admin"].post("/v1/users/forget", json={"user": "ann@example.org", "dry_run": True})
    assert (job.body["user"], counted.json()["cancelled"]) == (counted.json()["user"], 1)


async def test_a_line_has_one_prompt(client, working):
    line = {"custom_id": "1", "method": "POST", "url": "/v1/completions"}
    sent = [line | {"body": {"model": "fin.sa", "prompt": ["a", "b"]}}]
    batch = await until(client, (await submit(client, sent, "/v1/completions")).id)
    assert [(error.code, error.param) for error in batch.errors.data] == [("several_prompts", "body.prompt")]


async def test_texts_and_selections_are_answered_too(client, working, settings):
    texts = [
        {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"model": "fin.sa", "prompt": "hi"}}
    ]
    with answering(settings):
        batch = await until(client, (await submit(client, texts, "/v1/completions")).id)
    (told,) = await lines(client, batch.output_file_id)
    assert told["response"]["body"]["choices"][0]["text"] == "re: hi"
    rows = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/select", "body": {"input": f"text {number}"}}
        for number in range(2)
    ]

    def select(job):
        assert job.body["priority"] == "batch"
        if job.body["input"] == "text 0":
            return JobState.FAILED, {"error": {"code": "x", "detail": "y", "retryable": False}}
        return JobState.SUCCEEDED, {"selection": {"label": "fin.sa", "probability": 0.9}}

    with answering(settings, "select", select):
        batch = await until(client, (await submit(client, rows, "/v1/select")).id)
    (told,), (failed,) = await lines(client, batch.output_file_id), await lines(client, batch.error_file_id)
    assert (told["custom_id"], told["response"]["body"]["label"]) == ("1", "fin.sa")
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("0", 409)


async def test_a_line_whose_job_fails_stands_in_the_error_file(client, working, settings):
    def refuse(job):
        return JobState.FAILED, {"error": {"code": "adapter_missing", "detail": "gone", "retryable": False}}

    with answering(settings, answer=refuse):
        batch = await until(client, (await submit(client, [chat_line(1)])).id)
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (0, 1)
    (told,) = await lines(client, batch.error_file_id)
    assert told["response"]["status_code"] == 400
    assert told["response"]["body"]["error"]["code"] == "adapter_missing"


NOW = {"type": "function", "function": {"name": "now"}}
BROKEN = {"function": {"name": "now", "parameters": {"properties": {"a": {"not": {}}}}}}
BAD = [
    (b"{", "invalid_json_line", None),
    (b"[1]", "invalid_json_line", None),
    (b'{"custom_id": "a", "custom_id": "b"}', "invalid_json_line", None),
    (b'{"custom_id": "\xff"}', "invalid_json_line", None),
    (json.dumps(chat_line(1) | {"custom_id": "\ud800"}).encode(), "invalid_request", "custom_id"),
    (json.dumps({**chat_line(1), "custom_id": None}).encode(), "invalid_request", "custom_id"),
    (b'{"method": "POST", "url": "/v1/chat/completions", "body": {}}', "missing_required_parameter", "custom_id"),
    (json.dumps(chat_line(2) | {"method": "GET"}).encode(), "invalid_request", "method"),
    (json.dumps(chat_line(3) | {"colour": "red"}).encode(), "unknown_parameter", "colour"),
    (json.dumps(chat_line(4, url="/v1/completions")).encode(), "mismatched_endpoint", "url"),
    (json.dumps(chat_line(5, model="gpt-9")).encode(), "model_not_found", "body.model"),
    (json.dumps(chat_line(6, model="")).encode(), "invalid_request", "body.model"),
    (json.dumps(chat_line(7, tools=[{"type": "custom"}])).encode(), "invalid_request", "body.tools.0.type"),
    (json.dumps(chat_line(14, tools=[NOW])).encode(), "tools_not_rendered", "body.tools"),
    (json.dumps(chat_line(15, tools=[NOW | BROKEN], tool_choice="required")).encode(), "tools_invalid", "body.tools"),
    (json.dumps(chat_line(8, top_k_=1)).encode(), "unknown_parameter", "body.top_k_"),
    (json.dumps(chat_line(9, stream=True)).encode(), "stream_in_batch", "body.stream"),
    (json.dumps(chat_line(10, "x" * 40_000)).encode(), "input_too_long", None),
    (json.dumps(chat_line(11, "\ud800")).encode(), "invalid_request", "body.messages.0.content.constrained-str"),
    (json.dumps(chat_line(12, max_tokens=90_000)).encode(), "too_many_tokens", None),
    (json.dumps(chat_line(13, "x" * (2 << 20))).encode(), "line_too_long", None),
    (json.dumps(chat_line(0)).encode(), "duplicate_custom_id", "custom_id"),
]


async def test_every_bad_line_is_reported_and_nothing_runs(client, working, ledger):
    content = jsonl([chat_line(0)]) + b"\n" + b"\n".join(raw for raw, _, _ in BAD) + b"\n" + jsonl([chat_line(99)])
    batch = await until(client, (await submit(client, content)).id)
    assert batch.status == "failed"
    assert batch.failed_at
    found = {}
    for error in batch.errors.data:
        found.setdefault(error.line, []).append((error.code, error.param))
        assert error.message
    assert batch.errors.object == "list"
    assert set(found) == set(range(3, 3 + len(BAD)))
    for number, (_, expected, param) in enumerate(BAD, 3):
        assert (expected, param) in found[number], (number, found[number])
    assert ledger.redis.zcard(LedgerKey.JOBS.of("default")) == 0
    assert (batch.request_counts.total, batch.output_file_id, batch.error_file_id) == (0, None, None)


async def test_more_bad_lines_than_the_record_holds_are_all_shown(client, working):
    made = await submit(client, b"{\n" * 1500)
    batch = await until(client, made.id)
    assert [error.line for error in batch.errors.data] == list(range(1, 1501))
    (listed,) = [one async for one in client.batches.list()]
    assert len(listed.errors.data) == 100


async def test_a_file_without_lines_or_with_too_many_fails(client, working, monkeypatch):
    batch = await until(client, (await submit(client, b"\n \n")).id)
    assert [error.code for error in batch.errors.data] == ["empty_file"]
    batch = await until(client, (await submit(client, b"{\n" * 50_001)).id)
    assert [(error.code, error.line) for error in batch.errors.data] == [("too_many_tasks", 50_001)]


async def test_a_file_deleted_under_a_batch_changes_nothing(client, settings, api, store):
    file = await client.files.create(file=("rows.jsonl", jsonl([chat_line(1)])), purpose="batch")
    made = await client.batches.create(input_file_id=file.id, endpoint=CHATS, completion_window="24h")
    await client.files.delete(file.id)
    with answering(settings):
        async with batch_worker(api["app"].state.clients):
            batch = await until(client, made.id)
    assert batch.status == "completed"


async def test_an_input_that_changed_in_the_store_fails_its_batch(client, api, store):
    made = await submit(client, [chat_line(1)])
    (key,) = store.keys(folder_of("default", made.id))
    store.put(key, jsonl([chat_line(2)]))
    other = await submit(client, [chat_line(1)])
    (gone,) = store.keys(folder_of("default", other.id))
    store.delete(gone)
    async with batch_worker(api["app"].state.clients):
        for batch_id in (made.id, other.id):
            batch = await until(client, batch_id)
            assert (batch.status, batch.errors.data[0].code) == ("failed", "input_lost")


async def test_a_cancelled_batch_delivers_what_is_done(client, working, settings, ledger, worker):
    made = await submit(client, [chat_line(number) for number in range(40)])
    await until(client, made.id, {"in_progress"})
    job_id = job_id_of(made.id, 1)
    await asyncio.to_thread(eventually, lambda: ledger.redis.exists(LedgerKey.JOB.of(job_id)), "a job")
    running = worker.take(job_id, "generate.fin")
    result = {"text": "late", "finish_reason": "stop", "prompt_tokens": 7, "generated_tokens": 3}
    assert (await client.batches.cancel(made.id)).status == "cancelling"
    assert (await client.batches.retrieve(made.id)).cancelling_at
    worker.end(running, JobState.SUCCEEDED, result=result)
    batch = await until(client, made.id)
    assert batch.status == "cancelled"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 39)
    (told,) = await lines(client, batch.output_file_id)
    assert told["custom_id"] == "row-0"
    errors = await lines(client, batch.error_file_id)
    assert [one["custom_id"] for one in errors] == [f"row-{number}" for number in range(1, 40)]
    assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    assert {one["response"] for one in errors} == {None}
    again = await client.batches.cancel(made.id)
    assert again.status == "cancelled"
    assert ledger.redis.zcard(LedgerKey.JOBS.of("default")) == 0


async def test_a_batch_cancelled_while_it_starts_ends_cancelled(client, api):
    made = await submit(client, [chat_line(1), chat_line(2)])
    assert (await client.batches.cancel(made.id)).status == "cancelling"
    async with batch_worker(api["app"].state.clients):
        batch = await until(client, made.id)
    assert batch.status == "cancelled"
    assert batch.request_counts.failed == 2
    assert {one["error"]["code"] for one in await lines(client, batch.error_file_id)} == {"batch_cancelled"}


async def test_a_batch_past_its_window_delivers_what_is_done(client, api, ledger, settings):
    made = await submit(client, [chat_line(number) for number in range(3)])
    taken = ledger.do(calls.take_batch(15))
    late = taken.batch.model_copy(update={"expires_at": time.time() + 1})
    ledger.do(calls.write_batch(made.id, taken.fence, late, 0))
    async with batch_worker(api["app"].state.clients):
        batch = await until(client, made.id)
    assert batch.status == "expired"
    assert batch.expired_at
    assert {one["error"]["code"] for one in await lines(client, batch.error_file_id)} == {"batch_expired"}


async def test_a_stale_worker_writes_nothing(client, ledger):
    made = await submit(client, [chat_line(1)])
    first = ledger.do(calls.take_batch(0))
    second = ledger.do(calls.take_batch(15))
    assert (first.batch.id, second.fence) == (made.id, first.fence + 1)
    with pytest.raises(calls.StaleBatch):
        ledger.do(calls.write_batch(made.id, first.fence, first.batch, 15))
    assert ledger.do(calls.take_batch(15)) is None


async def test_refusals_of_the_ledger_are_waited_for(settings, tokens, client, release):
    small = settings.model_copy(update={"max_waiting_jobs": 40})
    rows = [chat_line(number) for number in range(20)]
    made = await submit(client, rows)
    async with serving(small) as (app, url), client_of(url) as other:
        assert (await other.get("/healthz")).is_success  # from now on it has clients
        async with batch_worker(app.state.clients):
            await until(client, made.id, {"in_progress"})
            with answering(settings):
                batch = await until(client, made.id)
    assert batch.request_counts.completed == 20


async def test_a_worker_waits_for_a_store_that_is_away(settings, client, release, api, monkeypatch):
    made = await submit(client, [chat_line(1)])
    clients = api["app"].state.clients
    real, calls_made = clients.registry.store.put, []

    def away(key, data):
        from shared.errors import Unavailable

        calls_made.append(key)
        if len(calls_made) < 3:
            raise Unavailable("store_unavailable", "the object store (S3) does not answer")
        real(key, data)

    monkeypatch.setattr(clients.registry.store, "put", away)
    with answering(settings):
        async with batch_worker(clients):
            batch = await until(client, made.id)
    assert batch.status == "completed"
    assert len(calls_made) > 3


async def test_two_batches_share_what_may_be_in_the_ledger(client, working, settings, ledger):
    first = await submit(client, [chat_line(number) for number in range(40)])
    second = await submit(client, [chat_line(number) for number in range(40)])
    with answering(settings):
        ends = [await until(client, one.id) for one in (first, second)]
    assert {batch.request_counts.completed for batch in ends} == {40}


async def test_batches_belong_to_a_tenant_and_a_line_of_keys(client, api, ledger, settings):
    made = await submit(client, [chat_line(1)])
    assert code(await api["other"].get(f"/v1/batches/{made.id}"), 404) == "batch_not_found"
    assert code(await api["other"].post(f"/v1/batches/{made.id}/cancel"), 404) == "batch_not_found"
    assert (await api["other"].get("/v1/batches")).json()["data"] == []
    assert (await api["admin"].get(f"/v1/batches/{made.id}")).json()["id"] == made.id
    file = (await client.files.retrieve(made.input_file_id)).id
    asked = {"input_file_id": file, "endpoint": CHATS, "completion_window": "24h"}
    assert code(await api["other"].post("/v1/batches", json=asked), 404) == "file_not_found"


async def test_a_request_that_makes_no_batch_is_refused_by_field(client):
    file = await client.files.create(file=("rows.jsonl", b"x"), purpose="user_data")
    for wrong, param in (
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({}, "input_file_id"),
    ):
        asked = {"input_file_id": file.id, "endpoint": CHATS, "completion_window": "24h"}
        with pytest.raises(openai.BadRequestError) as error:
            await client.batches.create(**asked | wrong)
        assert error.value.param == param


async def test_a_repeated_creation_is_one_batch(client):
    file = await client.files.create(file=("rows.jsonl", jsonl([chat_line(1)])), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHATS, "completion_window": "24h"}
    head = {"Idempotency-Key": "k"}
    first = await client.batches.create(**asked, extra_headers=head)
    await client.files.delete(file.id)
    assert (await client.batches.create(**asked, extra_headers=head)).id == first.id
    with pytest.raises(openai.BadRequestError) as error:
        await client.batches.create(**asked, metadata={"a": "b"}, extra_headers=head)
    assert error.value.code == "idempotency_key_reused"
    assert len([one async for one in client.batches.list()]) == 1


async def test_batches_are_listed_by_pages_newest_first(client):
    made = [(await submit(client, [chat_line(1)])).id for _ in range(5)]
    assert [one.id async for one in client.batches.list(limit=2)] == made[::-1]
    with pytest.raises(openai.BadRequestError) as error:
        await client.batches.list(after="batch_x")
    assert error.value.code == "cursor_unknown"


async def test_a_tenant_has_so_many_batches_open(client, monkeypatch):
    monkeypatch.setattr("shared.ledger.calls.batches.MAX_OPEN", 1)
    await submit(client, [chat_line(1)])
    with pytest.raises(openai.RateLimitError) as error:
        await submit(client, [chat_line(1)])
    assert error.value.code == "too_many_batches"


async def test_what_is_left_over_is_swept(client, api, registry, store, monkeypatch):
    clients = api["app"].state.clients
    file = await client.files.create(file=("rows.jsonl", b"x"), purpose="batch")
    record = registry.files.get("default", file.id)
    registry.files._records.add("default", file.id, record.model_copy(update={"expires_at": 1}))
    made = await submit(client, [chat_line(1)])
    store.put(f"{folder_of('default', 'batch_lost')}input/x", b"x")
    monkeypatch.setattr(sweeping, "_GRACE", sweeping.timedelta(seconds=-5))
    await asyncio.to_thread(sweeping.sweep, clients)
    assert registry.files._records.get("default", file.id) is None
    assert store.keys(folder_of("default", "batch_lost")) == []
    assert len(store.keys(folder_of("default", made.id))) == 1


def test_lines_are_found_again_by_their_place(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"\xef\xbb\xbfa\n\n  \nbb\n" + b"x" * 100 + b"\nlast")
    file = InputFile(path, 50)
    file.index()
    assert list(file.read(0, 2)) == [(1, b"a\n"), (4, b"bb\n")]
    assert [(number, len(raw)) for number, raw in file.read(2, 9)] == [(5, 51), (6, 4)]
