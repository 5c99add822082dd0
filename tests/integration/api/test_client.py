"""The client package against a real API, plain and on asyncio."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from signalbox import (
    AsyncSignalbox,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    JobFailed,
    NotFoundError,
    Signalbox,
    SignalboxError,
    Unreachable,
    WaitTimeout,
)

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.jobs import JobState
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from tests.support.adapter_samples import CONFIG, lora_tensors, safetensors
from tests.support.api import make_release
from tests.support.batches import answering, batch_worker, chat_line, jsonl
from tests.support.eventually import eventually

CLIENT = Path(__file__).parents[3] / "clients" / "python"
QUEUE = "generate.fin"
SELECTED = {"label": "fin.sa", "probability": 0.9, "runners_up": [{"label": "fin.ha", "probability": 0.1}]}


class Awaited:
    """A client of either kind: the plain one works in threads."""

    def __init__(self, client):
        self.client = client
        self._is_async = isinstance(client, AsyncSignalbox)

    async def __call__(self, name, *args, **kwargs):
        method = getattr(self.client, name)
        return await (method(*args, **kwargs) if self._is_async else asyncio.to_thread(method, *args, **kwargs))

    def stream(self, job, **kwargs):
        return self.told("stream", job, **kwargs)

    async def told(self, name, *args, **kwargs):
        events = getattr(self.client, name)(*args, **kwargs)
        while True:
            step = anext(events, None) if self._is_async else asyncio.to_thread(next, events, None)
            if (event := await step) is None:
                return
            yield event

    async def close(self):
        await (self.client.close() if self._is_async else asyncio.to_thread(self.client.close))


@pytest.fixture(params=[Signalbox, AsyncSignalbox])
async def make(request, api, tokens):
    """Makes clients of one kind, with the key of a name."""
    async with contextlib.AsyncExitStack() as stack:

        def make(key="admin", url=api["url"], **options):
            made = Awaited(request.param(url, tokens.get(key, key), **options))
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
def client(make, release):
    return make()


class Proxy:
    """Stands between client and API; cuts connections, or swallows an answer after the API has given it."""

    def __init__(self, url):
        self._api = urlsplit(url)
        self._open = set()
        self.connections = 0
        self.answers_to_swallow = 0

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self.cut()

    async def _serve(self, reader, writer):
        self.connections += 1
        up_reader, up_writer = await asyncio.open_connection(self._api.hostname, self._api.port)
        self._open |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer, is_answer=True))

    async def _pump(self, reader, writer, *, is_answer=False):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if is_answer and self.answers_to_swallow:
                    self.answers_to_swallow -= 1
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def cut(self):
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()


@pytest.fixture
async def proxy(api):
    proxy = Proxy(api["url"])
    async with proxy.serving() as url:
        proxy.url = url
        yield proxy


async def next_job(broker, worker, queue):
    """A service's part: the next message of its queue, as a job under a lease."""
    for _ in range(20):
        if found := await asyncio.to_thread(broker.brpop, queue, 2):  # its connection gives up after 5 s
            return worker.take(json.loads(found[1])["headers"]["id"], queue)
    raise AssertionError(f"nothing was sent to {queue}")


async def test_a_job_is_submitted_followed_and_read(client, worker):
    job = await client("submit", "x", label="fin.sa", metadata={"a": "b"})
    assert (job.kind, job.state, job.label) == ("generate", "routed", "fin.sa")
    worker.run(job.id, QUEUE, "a\u2028b\x85c")
    events = [event async for event in client.stream(job)]
    assert [event.text for event in events if event.type == "token"] == ["a\u2028b\x85c"]
    assert events[-1].is_final
    job = await client("wait", job.id)
    assert (job.state, job.text, job.metadata) == ("succeeded", "a\u2028b\x85c", {"a": "b"})
    assert [event async for event in client.stream(job, after=events[-1].id)] == []


async def test_a_chat_is_answered_whole(client, broker, worker):
    asking = asyncio.create_task(client("chat", "x", model="fin.sa", max_completion_tokens=5))
    job = await next_job(broker, worker, QUEUE)
    worker.end(job, JobState.SUCCEEDED, result={"text": "up", "label": "fin.sa"})
    answer = await asking
    assert (answer.text, answer.label, answer.signalbox["job"]) == ("up", "fin.sa", job.id)


async def test_a_chat_that_is_cut_is_joined_again_and_tells_each_text_once(make, proxy, release, broker, worker):
    client = make(url=proxy.url)
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]
    chunks = client.told("chat_stream", conversation, model="fin.sa")
    texts, first = [], asyncio.create_task(anext(chunks))
    job = await next_job(broker, worker, QUEUE)
    worker.tell(job, "token", text="one ")
    await first
    async for chunk in chunks:
        texts += [chunk.text] if chunk.text else []
        if chunk.text == "one ":
            proxy.cut()
            worker.tell(job, "token", text="two")
            worker.end(job, JobState.SUCCEEDED, result={"text": "one two", "label": "fin.sa"})
    assert ("".join(texts), chunk.signalbox["label"]) == ("one two", "fin.sa")
    assert proxy.connections > 1


async def test_rows_are_named_and_compared_with_their_labels(client, broker, worker):
    rows = [{"input": "a", "label": "fin.sa"}, {"input": "b", "label": "fin.ha"}]
    asking = asyncio.create_task(client("evaluate", rows))
    for _ in rows:
        job = await next_job(broker, worker, "select")
        worker.end(job, JobState.SUCCEEDED, selection=SELECTED, result=SELECTED)
    found = await asking
    assert (found.accuracy, found.per_label) == (0.5, {"fin.sa": (1, 1), "fin.ha": (1, 0)})


async def test_what_was_used_is_told_and_a_user_is_forgotten(client, worker):
    job = await client("submit", [{"role": "user", "content": "x"}], label="fin.sa", user="ann")
    worker.run(job.id, QUEUE)
    used = await client("usage", group_by=["label"])
    assert (used.items[0].raw["label"], used.total["requests"]) == ("fin.sa", 1)
    counted = await client("forget_user", "ann", dry_run=True)
    assert [one.id for one in await client("jobs", user=counted["user"])] == [job.id]
    assert (await client("forget_user", "ann"))["forgotten"] == 1


async def test_feedback_becomes_a_version_and_is_taken_back(client, worker):
    job = await client("submit", "x", label="fin.sa")
    worker.run(job.id, QUEUE)
    await client("feedback", job, label="fin.ha")
    assert (await client("feedback_dataset"))["labels"] == {"fin.ha": 1}
    await client("take_back_feedback", job)
    assert (await client("feedback_dataset", dry_run=True))["rows"] == 0
    assert (await client("forget_user", key=(await client("job", job)).raw["key"]))["forgotten"] == 1


async def test_a_cut_stream_goes_on_after_its_last_event(make, proxy, release, worker):
    client = make(url=proxy.url)
    job = await client("submit", "x", label="fin.sa")
    running = worker.take(job.id, QUEUE)
    worker.tell(running, "token", text="one ")
    texts = []
    async for event in client.stream(job):
        texts.append(event.text)
        if event.text == "one ":
            before = proxy.connections
            proxy.cut()
            worker.tell(running, "token", text="two")
            worker.end(running, JobState.SUCCEEDED, result={"text": "one two"})
    assert "".join(texts) == "one two"
    assert proxy.connections == before + 1


async def test_a_submit_whose_answer_is_lost_makes_one_job(make, proxy, release, ledger):
    client = make(url=proxy.url)
    proxy.answers_to_swallow = 1
    job = await client("submit", "x")
    assert proxy.connections == 2
    assert ledger.redis.keys(LedgerKey.JOB.pattern) == [LedgerKey.JOB.of(job.id)]
    same = [await client("submit", "y", idempotency_key="mine") for _ in range(2)]
    assert same[0].id == same[1].id


async def test_a_post_that_may_not_be_repeated_is_not(make, proxy, release, ledger):
    client = make(url=proxy.url)
    proxy.answers_to_swallow = 1
    with pytest.raises(Unreachable):
        await client("post", "/v1/jobs", {"input": "x"})
    assert proxy.connections == 1
    assert len(ledger.redis.keys(LedgerKey.JOB.pattern)) == 1


async def test_a_wait_ends_in_time_and_the_job_goes_on(client):
    job = await client("submit", "x", label="fin.sa")
    with pytest.raises(WaitTimeout):
        await client("wait", job, timeout=0.2)
    assert (await client("job", job)).state == "routed"
    assert (await client("cancel", job)).state == "cancelled"
    assert (await client("wait", job, timeout=20)).state == "cancelled"


async def test_what_a_job_asked_is_asked_again(client):
    first = await client("submit", "x", label="fin.sa")
    made = await client("again", first, label="fin.ha", explain=True)
    assert (made.id != first.id, made.label) == (True, "fin.ha")
    whole = await client("job", made)
    assert whole.metadata == {"made_from": first.id}
    assert whole.request["explain"] is True


@pytest.mark.parametrize("wait_seconds", [20, 0], ids=["answered", "followed"])
async def test_a_selection_is_the_answer_however_long_it_takes(client, broker, worker, wait_seconds):
    selecting = asyncio.create_task(client("select", "profits rose", wait_seconds=wait_seconds))
    job = await next_job(broker, worker, "select")
    worker.end(job, JobState.SUCCEEDED, selection=SELECTED)
    selection = await selecting
    assert (selection.label, selection.probability, selection.runners_up) == tuple(SELECTED.values())


async def test_a_selection_that_fails_says_why(client, broker, worker):
    selecting = asyncio.create_task(client("select", "x", wait_seconds=0))
    job = await next_job(broker, worker, "select")
    worker.end(job, JobState.FAILED, error={"code": "selector_broken", "detail": "train it anew", "retryable": False})
    with pytest.raises(JobFailed, match="train it anew"):
        await selecting


async def test_jobs_are_listed_page_by_page(client):
    made = [(await client("submit", str(n), label="fin.sa")).id for n in range(3)]
    first = await client("jobs", limit=2, state="routed")
    second = await client("jobs", limit=2, before=first.next)
    assert [job.id for page in (first, second) for job in page] == made[::-1]
    assert second.next is None


async def test_a_job_that_was_given_up_is_listed_and_run_again(client, worker):
    job = await client("submit", "x", label="fin.sa")
    worker.lose(job.id, QUEUE, 3)
    assert [(one.id, one.error["code"]) for one in await client("dead")] == [(job.id, "attempts_exhausted")]
    assert (await client("replay", job)).id == job.id
    assert list(await client("dead")) == []
    assert (await client("job", job)).state == "routed"
    worker.lose(job.id, QUEUE, times=3)
    assert await client("replay_dead") == 1
    worker.lose(job.id, QUEUE, times=3)
    await client("drop", job)
    assert list(await client("dead")) == []


async def test_feedback_reaches_the_job(client, worker):
    job = await client("submit", "x", label="fin.sa")
    worker.run(job.id, QUEUE)
    await client("feedback", job, label="fin.ha", rating=-1)
    feedback = (await client("job", job)).feedback
    assert (feedback["label"], feedback["rating"]) == ("fin.ha", -1)


async def test_releases_are_listed_promoted_rolled_back_and_edited(make, client, registry, release, ledger):
    ledger.do(calls.heartbeat("worker", release.queues, [], {}, 60))
    newer = make_release(labels=("fin.sa",), parent=release.id)
    registry.releases.add(newer)
    assert {(one.id, one.current) for one in await client("releases")} == {(release.id, True), (newer.id, False)}
    assert (await client("promote", newer.id)).id == newer.id
    assert [model.id for model in await client("models")] == ["tiny", "base", "auto", "fin.sa", "fin.sa@1"]
    assert (await client("rollback")).id == release.id
    assert set((await client("release")).labels) == set(release.labels)
    edited = await make("train")("edit_release", remove=["fin.ha"], templates={"fin.sa": "plain"}, keep_selector=False)
    assert (set(edited.labels), edited.labels["fin.sa"]["template"]) == ({"fin.sa", "med.qa"}, "plain")
    read = await make("train")("edit_release", reading="dialogue", harness_tags=["memo"])
    assert (read.raw["reading"]["mode"], read.raw["reading"]["harness_tags"]) == ("dialogue", ["memo"])


async def test_a_model_is_given_another_name(make, client, release):
    promoter = make("admin")
    assert (await promoter("set_alias", "openai/gpt-4o-mini", "auto")).model == "auto"
    assert [one.alias for one in await client("aliases")] == ["openai/gpt-4o-mini"]
    assert (await client("model", "openai/gpt-4o-mini")).signalbox["kind"] == "alias"
    await promoter("delete_alias", "openai/gpt-4o-mini")
    assert await client("aliases") == []


async def test_a_file_of_requests_is_answered_in_a_file(api, client, release, settings, ledger):
    file = await client("upload_file", jsonl([chat_line(1)]), "rows.jsonl")
    batch = await client("create_batch", file.id, metadata={"for": "test"})
    async with batch_worker(api["app"].state.clients):
        with answering(settings):
            await asyncio.to_thread(
                eventually, lambda: not ledger.redis.exists(LedgerKey.OPEN_BATCHES), "the batch ends"
            )
    shown = await client("batch", batch.id)
    assert (shown.is_final, shown.request_counts["completed"]) == (True, 1)
    assert b"re: did the stock rise?" in await client("file_content", shown.output_file_id)
    assert [one.id for one in await client("batches")] == [batch.id]
    assert (await client("cancel_batch", batch.id)).status == "completed"


async def test_rows_and_adapters_are_uploaded_and_trained_on(make, base, tmp_path):
    client = make("train")
    dataset = await client("upload_dataset", [{"input": text} for text in "äbcd"], "demo")
    assert (dataset.name, dataset.rows) == ("demo", 4)
    assert dataset.format == "JSON lines: input/output"
    assert [one.id for one in await client("datasets")] == [dataset.id]
    shown = await client("base_model", "tiny")
    assert (shown.id, len(shown.raw["shapes"])) == ("tiny", 4)
    checked = await client("check_dataset", [{"question": "äbcd", "answer": 4}], columns={"input": "question"})
    assert (checked.rows, checked.sample[0][-1]["learnt"]) == (1, False)
    (tmp_path / CONFIG_NAME).write_text(json.dumps(CONFIG))
    (tmp_path / WEIGHTS_NAME).write_bytes(safetensors(lora_tensors()))
    adapter = await client("upload_adapter", tmp_path, "fin.sa", template="plain")
    assert (adapter.ref, adapter.raw["template"]) == ("fin.sa@1", "plain")
    stored = await client("adapter", "fin.sa")
    assert await client("adapters", "fin.sa") == [stored]
    assert {one["outcome"] for one in adapter.raw["checks"]} == {"passed"}
    assert adapter.to_dict() == stored.to_dict() | {"checks": adapter.raw["checks"]}
    exported = await client("export_adapter", "fin.sa", tmp_path / "exported")
    assert (exported / WEIGHTS_NAME).read_bytes() == (tmp_path / WEIGHTS_NAME).read_bytes()
    with pytest.raises(SignalboxError, match="is not empty"):
        await client("export_adapter", "fin.sa", exported)
    settings = {"target_modules": ["q_proj"]}
    quote = await client("estimate", "adapter.train", label="fin.sa", dataset="demo", settings=settings)
    assert (quote.language_model, quote.estimate, quote.needs_confirmation) == ("trained", None, False)
    job = await client("train", "adapter.train", label="fin.sa", dataset="demo", settings=settings)
    assert (await client("job", job)).request["label"] == "fin.sa"
    assert (await client("cancel", job)).state == "cancelled"
    assert [event.type async for event in client.stream(job)] == ["state", "state"]
    assert await client("delete_dataset", "demo") is await client("delete_adapter", "fin.sa@1") is None
    assert await client("datasets") == await client("adapters") == []


async def test_an_export_whose_connection_is_cut_is_received_anew(make, proxy, base, tmp_path):
    (tmp_path / CONFIG_NAME).write_text(json.dumps(CONFIG))
    (tmp_path / WEIGHTS_NAME).write_bytes(safetensors(lora_tensors()))
    client = make(url=proxy.url)
    await client("upload_adapter", tmp_path, "fin.sa")
    proxy.answers_to_swallow = 1
    exported = await client("export_adapter", "fin.sa", tmp_path / "exported")
    assert (exported / WEIGHTS_NAME).read_bytes() == (tmp_path / WEIGHTS_NAME).read_bytes()
    assert proxy.connections > 1


async def test_releases_and_feedback_are_deleted_and_what_is_in_use_is_a_conflict(client, registry, release, worker):
    other = make_release(parent=release.id).model_copy(update={"reject_policy": "error"})
    registry.releases.add(other)
    with pytest.raises(ConflictError, match="is live: promote another"):
        await client("delete_release", release.id)
    await client("delete_release", other.id)
    assert [one.id for one in await client("releases")] == [release.id]
    job = await client("submit", "x", label="fin.sa")
    worker.run(job.id, QUEUE)
    await client("feedback", job, rating=1)
    await client("delete_feedback", job)
    assert (await client("job", job)).feedback is None


async def test_a_refusal_says_what_to_do(client, make):
    with pytest.raises(NotFoundError) as missing:
        await client("job", "job_none")
    assert (missing.value.code, missing.value.status, missing.value.retryable) == ("job_not_found", 404, False)
    with pytest.raises(InvalidRequestError, match=r"it has fin\.ha, fin\.sa"):
        await client("submit", "x", label="no.such")
    with pytest.raises(AuthenticationError):
        await make("sbk_wrong")("models")
    with pytest.raises(NotFoundError):
        [event async for event in client.stream("job_none")]


async def test_the_readiness_is_told_where_something_is_missing_too(client):
    parts = (await client("readiness"))["parts"]
    assert (parts["ledger"]["ok"], parts["consumers"]["ok"]) == (True, False)


async def test_the_lines_of_the_readme_run(api, tokens, release, broker, worker, ledger):
    (program,) = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    assert len(program.split("\n\n", 1)[1].splitlines()) <= 10
    env = os.environ | {"SIGNALBOX_API_URL": api["url"], "SIGNALBOX_API_KEY": tokens["submit"]}
    running = asyncio.create_task(
        asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60
        )
    )
    job = await next_job(broker, worker, "select")
    ledger.do(calls.route(job, queue=QUEUE, label="fin.sa", selection=SELECTED))
    worker.run(job.id, QUEUE, "declined card")
    done = await running
    assert (done.returncode, done.stdout, done.stderr) == (0, "declined card\nfin.sa, 0.90\n", "")
    assert ledger.do(calls.get(job.id, "default")).feedback["rating"] == 1
