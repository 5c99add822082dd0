"""The same key and request make one thing and give one answer, however often and however parallel."""

import asyncio
import contextlib
import time

import pytest

from services.api.http import idempotency
from services.api.http.idempotency import Answer, Once
from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.errors import Conflict
from shared.ledger import AsyncLedger, calls
from shared.ledger.keys import LedgerKey
from tests.support.api import client_of, code, make_release, serving

KEY = {"Idempotency-Key": "order-66"}


async def test_fifty_parallel_posts_make_one_job_and_get_one_answer(api, release, ledger):
    posts = [api["submit"].post("/v1/jobs", json={"input": "x"}, headers=KEY) for _ in range(50)]
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert len(ledger.redis.keys(LedgerKey.JOB.pattern)) == 1


async def test_another_body_under_the_same_key_is_refused(api, release):
    await api["submit"].post("/v1/jobs", json={"input": "x"}, headers=KEY)
    for other in ({"input": "y"}, {"input": "x", "label": "fin.sa"}, {"input": "x", "metadata": {"a": "b"}}):
        answer = await api["submit"].post("/v1/jobs", json=other, headers=KEY)
        assert code(answer, 422) == "idempotency_key_reused"
    answer = await api["submit"].post("/v1/select", json={"input": "x", "wait_seconds": 0}, headers=KEY)
    assert code(answer, 422) == "idempotency_key_reused"


async def test_a_request_repeated_after_an_update_is_known_by_the_body_that_stands_in_the_ledger(api, release, ledger):
    """The job was written before `messages` was a field."""
    stored = {
        "input": "profits rose",
        "instruction": "",
        "params": {"stop": [], "logprobs": False},
        "priority": "interactive",
        "metadata": {},
    }
    job = NewJob(
        id=new_job_id("default", KEY["Idempotency-Key"]),
        tenant_id="default",
        kind=JobKind.GENERATE,
        stage=Stage.SELECT,
        queue="select",
        body=stored,
    )
    ledger.do(calls.create(job, ttl_seconds=60))
    again = await api["submit"].post("/v1/jobs", json={"input": "profits rose"}, headers=KEY)
    assert (again.status_code, again.json()["id"]) == (202, job.id)
    assert again.headers["idempotent-replayed"] == "true"
    messages = [{"role": "user", "content": "profits rose"}]
    other = await api["submit"].post("/v1/jobs", json={"messages": messages}, headers=KEY)
    assert code(other, 422) == "idempotency_key_reused"


async def test_a_repeated_conversation_is_one_job(api, release, ledger):
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    answers = [await api["submit"].post("/v1/jobs", json={"messages": messages}, headers=KEY) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    selections = [
        await api["submit"].post(
            "/v1/select", json={"messages": messages, "wait_seconds": 0}, headers={"Idempotency-Key": "other"}
        )
        for _ in range(2)
    ]
    assert selections[0].json() == selections[1].json()
    assert len(ledger.redis.keys(LedgerKey.JOB.pattern)) == 2


async def test_a_repeated_job_gets_its_first_answer_after_its_label_has_left_the_release(
    api, release, registry, worker
):
    first = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "med.qa"}, headers=KEY)
    worker.run(first.json()["id"], "generate.med")
    smaller = make_release(labels=("fin.sa",), parent=release.id)
    registry.releases.add(smaller)
    await api["admin"].post(f"/v1/releases/{smaller.id}/promote", json={"force": True})
    again = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "med.qa"}, headers=KEY)
    assert (again.status_code, again.json()) == (202, first.json())
    fresh = await api["submit"].post("/v1/jobs", json={"input": "x", "label": "med.qa"})
    assert code(fresh, 422) == "label_unknown"


async def test_keys_of_two_tenants_never_meet(api, release, registry, weights):
    theirs = make_release(tenant_id="other")
    registry.releases.add(theirs)
    registry.releases.promote("other", theirs.id, force=True)
    mine = await api["submit"].post("/v1/jobs", json={"input": "x"}, headers=KEY)
    other = await api["other"].post("/v1/jobs", json={"input": "y"}, headers=KEY)
    assert (mine.status_code, other.status_code) == (202, 202)
    assert mine.json()["id"] != other.json()["id"]


async def test_a_malformed_key_is_refused(api, release):
    for bad in ("", "x" * 256, "a b"):
        answer = await api["submit"].post("/v1/jobs", json={"input": "x"}, headers={"Idempotency-Key": bad})
        assert code(answer, 422) == "request_invalid"


async def test_parallel_uploads_make_one_data_set(api, registry):
    def post():
        return api["train"].post("/v1/datasets?name=demo", content=b'{"input": "a"}\n', headers=KEY)

    answers = await asyncio.gather(*(post() for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert any(answer.status_code == 201 for answer in answers)
    for refused in (answer for answer in answers if answer.status_code == 409):
        assert code(refused, 409) == "idempotency_in_flight"
    again = await post()
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == next(answer.json() for answer in answers if answer.status_code == 201)
    assert len(registry.datasets.list_all("default")) == 1


async def test_another_upload_under_the_same_key_is_refused(api):
    await api["train"].post("/v1/datasets?name=demo", content=b'{"input": "a"}\n', headers=KEY)
    for url, content in (("/v1/datasets?name=demo", b'{"input": "b"}\n'), ("/v1/datasets?name=b", b'{"input": "a"}\n')):
        assert code(await api["train"].post(url, content=content, headers=KEY), 422) == "idempotency_key_reused"


async def test_a_refusal_is_replayed_too(api):
    first = await api["train"].post("/v1/datasets?name=demo", content=b"no json", headers=KEY)
    again = await api["train"].post("/v1/datasets?name=demo", content=b"no json", headers=KEY)
    assert code(first, 422) == code(again, 422) == "dataset_malformed"
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_request_that_takes_longer_than_a_dead_ones_key_lives_keeps_its_key(ledger, settings, monkeypatch):
    monkeypatch.setattr(idempotency, "IN_FLIGHT_SECONDS", 1)
    other = AsyncLedger(settings.redis_url)
    async with contextlib.aclosing(other.redis):
        once = Once(other.redis, "default", "POST /x", "k")
        asked = []

        async def slow():
            """Ask again over and over, for three times as long as the key of a dead request lives."""
            end = time.monotonic() + 3
            while time.monotonic() < end:
                with pytest.raises(Conflict):
                    await once({}, slow)
                asked.append(await other.redis.pttl(once._name))
                await asyncio.sleep(0.05)  # between two tries
            return Answer(201, {})

        assert (await once({}, slow)).status_code == 201
        assert min(asked) > 0
        assert (await once({}, slow)).headers["idempotent-replayed"] == "true"


async def test_an_outage_frees_the_key(settings, tokens):
    broken = settings.model_copy(update={"s3_url": "http://127.0.0.1:9"})
    async with serving(broken) as (_, url), client_of(url, tokens["train"]) as client:
        answer = await client.post("/v1/datasets?name=demo", content=b'{"input": "a"}\n', headers=KEY)
        assert code(answer, 503) == "store_unavailable"
        assert int(answer.headers["retry-after"]) > 0
    async with serving(settings) as (_, url), client_of(url, tokens["train"]) as client:
        answer = await client.post("/v1/datasets?name=demo", content=b'{"input": "a"}\n', headers=KEY)
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (201, False)


async def test_a_training_job_is_queued_once(api, ledger):
    await api["train"].post("/v1/datasets?name=demo", content=b'{"input": "a"}\n' * 4)
    body = {"kind": "adapter.train", "label": "fin.sa", "dataset": "demo"}
    answers = [await api["train"].post("/v1/training/jobs", json=body, headers=KEY) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert ledger.do(calls.list_jobs("default")).jobs[0].id == answers[0].json()["id"]
    other = await api["train"].post("/v1/training/jobs", json={**body, "label": "fin.ha"}, headers=KEY)
    assert code(other, 422) == "idempotency_key_reused"


async def test_feedback_that_is_repeated_is_answered_from_the_job_and_its_record_stays_small(
    api, release, worker, ledger
):
    job_id = (await api["submit"].post("/v1/jobs", json={"input": "x", "label": "fin.sa"})).json()["id"]
    worker.run(job_id, "generate.fin")
    feedback = {"output": "a better answer " * 1000}
    first = await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json=feedback, headers=KEY)
    await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})
    again = await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json=feedback, headers=KEY)
    assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (200, 200, "true")
    assert again.json()["feedback"] == (await api["submit"].get(f"/v1/jobs/{job_id}")).json()["feedback"]
    (record,) = ledger.redis.keys(LedgerKey.IDEMPOTENCY.pattern)
    assert len(ledger.redis.get(record)) < 200
    other = await api["submit"].post(f"/v1/jobs/{job_id}/feedback", json={"rating": -1}, headers=KEY)
    assert code(other, 422) == "idempotency_key_reused"


async def test_a_refusal_is_kept_for_an_hour(api, ledger):
    await api["train"].post("/v1/datasets?name=demo", content=b"no json", headers=KEY)
    (record,) = ledger.redis.keys(LedgerKey.IDEMPOTENCY.pattern)
    assert 3590 < ledger.redis.ttl(record) <= 3600
