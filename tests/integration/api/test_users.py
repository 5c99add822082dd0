"""What is kept of callers' users: a keyed hash, by which their jobs are listed and forgotten."""

import asyncio
import json

import pytest

from services.api.infra.user_ids import UserIds
from shared.contracts.batches import BatchState, folder_of
from shared.contracts.jobs import JobState
from shared.ledger import AsyncLedger, calls
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.settings import Settings
from tests.support.api import code
from tests.support.batches import CHATS, chat_line, jsonl

FIN = "generate.fin"
ANN = "ann@example.org"


@pytest.fixture(autouse=True)
def _released(release):
    """Every test has a current release."""


async def submitted(client, user=ANN, headers=None, **more):
    answer = await client.post(
        "/v1/jobs", json={"input": "x", "label": "fin.sa", "user": user, **more}, headers=headers
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def forget(client, user=ANN, headers=None, **more):
    answer = await client.post("/v1/users/forget", json={"user": user, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def everything(redis):
    """All that the ledger holds, as text."""
    kinds = {
        "hash": redis.hgetall,
        "string": redis.get,
        "set": redis.smembers,
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
        "list": lambda key: redis.lrange(key, 0, -1),
    }
    return str([(key, kinds[redis.type(key)](key)) for key in redis.scan_iter()])


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
async def test_no_id_is_kept_by_openais_routes(api, ledger, field):
    sent = {"model": "fin.sa", "messages": [{"role": "user", "content": "x"}], field: ANN}
    answer = await api["submit"].post("/v1/chat/completions", json=sent, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert ANN not in everything(ledger.redis)
    assert (await forget(api["admin"], dry_run=True))["cancelled"] == 1


async def test_jobs_are_listed_by_the_hash_of_their_user(admin, api, ledger):
    mine, _ = await submitted(admin), await submitted(admin, user="bob")
    await admin.post("/v1/select", json={"input": "x", "user": ANN, "wait_seconds": 0})
    assert ANN not in everything(ledger.redis)
    hidden = (await admin.get(f"/v1/jobs/{mine}")).json()["request"]["user"]
    assert (await forget(admin, dry_run=True)) == {
        "user": hidden,
        "dry_run": True,
        "forgotten": 0,
        "cancelled": 2,
        "feedback": 0,
        "traffic": 0,
        "files": 0,
        "batches": 0,
        "open_batches": 0,
        "datasets": [],
    }
    listed = (await admin.get("/v1/jobs", params={"user": hidden, "kind": "generate"})).json()["items"]
    assert [job["id"] for job in listed] == [mine]
    assert (await admin.get("/v1/jobs", params={"user": ANN})).status_code == 422


async def test_ended_jobs_go_with_texts_events_and_feedback(admin, worker, ledger):
    ended, waiting = await submitted(admin, input="a secret"), await submitted(admin, input="a secret")
    worker.run(ended, FIN, text="a secret")
    await admin.post(f"/v1/jobs/{ended}/feedback", json={"rating": 1})
    other = await submitted(admin, user="bob")
    assert ledger.redis.hlen(LedgerKey.FEEDBACK.of("default")) == 1
    told = await forget(admin)
    assert (told["forgotten"], told["cancelled"], told["feedback"]) == (1, 1, 1)
    for job_id in (ended, waiting):
        assert (await admin.get(f"/v1/jobs/{job_id}")).status_code == 404
        assert not ledger.redis.exists(LedgerKey.JOB.of(job_id), LedgerKey.EVENTS.of(job_id))
    assert not ledger.redis.hlen(LedgerKey.FEEDBACK.of("default"))
    assert [job["id"] for job in (await admin.get("/v1/jobs")).json()["items"]] == [other]
    assert (await forget(admin))["forgotten"] == 0


async def test_a_row_of_feedback_is_found_after_its_job_has_expired(admin, worker, ledger):
    job_id = await submitted(admin)
    worker.run(job_id, FIN)
    await admin.post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})
    ledger.redis.delete(LedgerKey.JOB.of(job_id))
    assert (await forget(admin))["feedback"] == 1
    assert not ledger.redis.exists(LedgerKey.FEEDBACK.of("default"), LedgerKey.FEEDBACK_SOURCES.of("default"))


async def test_a_job_that_a_worker_holds_is_told_to_end_and_kept_for_seconds_then(admin, worker, ledger):
    job_id = await submitted(admin)
    job = worker.take(job_id, FIN)
    assert (await forget(admin))["cancelled"] == 1
    assert ledger.do(calls.get(job_id)).cancel_requested
    worker.end(job, JobState.CANCELLED)
    assert 0 < ledger.redis.ttl(LedgerKey.JOB.of(job_id)) <= 5
    assert 0 < ledger.redis.ttl(LedgerKey.EVENTS.of(job_id)) <= 5


async def test_a_dead_letter_goes_too_and_gives_its_room_back(admin, worker, ledger):
    job_id = await submitted(admin)
    worker.lose(job_id, FIN, times=3)
    assert (await admin.get("/v1/jobs/dead")).json()["items"]
    await forget(admin)
    assert (await admin.get("/v1/jobs/dead")).json()["items"] == []
    assert ledger.redis.hget(LedgerKey.HELD, "default") == "0"


async def test_a_key_without_admin_forgets_its_own_line_alone(admin, api, ledger):
    _, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    headers = {"Authorization": f"Bearer {token}"}
    await submitted(api["anonymous"], headers=headers)
    theirs = await submitted(admin)
    assert (await forget(api["anonymous"], headers=headers))["cancelled"] == 1
    assert (await admin.get(f"/v1/jobs/{theirs}")).status_code == 200
    assert (await forget(api["other"]))["cancelled"] == 0


async def test_two_users_under_one_idempotency_key_are_two_requests(admin):
    headers = {"Idempotency-Key": "once"}
    first = await submitted(admin, headers=headers)
    assert await submitted(admin, headers=headers) == first
    answer = await admin.post("/v1/jobs", json={"input": "x", "label": "fin.sa", "user": "bob"}, headers=headers)
    assert answer.status_code == 422


async def test_the_key_of_the_settings_comes_before_the_ledgers(settings, ledger):
    asynchronous = AsyncLedger(settings.redis_url)
    by_ledger = [await UserIds(asynchronous, Settings()).hidden("default", ANN) for _ in range(2)]
    by_setting = await UserIds(asynchronous, Settings(user_key="k")).hidden("default", ANN)
    elsewhere = await UserIds(asynchronous, Settings(user_key="k")).hidden("other", ANN)
    await asynchronous.close()
    assert len({*by_ledger, by_setting, elsewhere}) == 3


async def test_the_command_line_counts_and_forgets(command, admin):
    await submitted(admin)
    out, said = await asyncio.to_thread(command("jobs", "forget", "--user", ANN, "--dry-run", "--json").communicate)
    assert json.loads(out)["cancelled"] == 1, said
    out, _ = await asyncio.to_thread(command("jobs", "forget", "--user", ANN, "--json").communicate)
    assert json.loads(out)["cancelled"] == 1
    assert (await admin.get("/v1/jobs")).json()["items"] == []


async def test_all_that_a_key_sent_goes_with_its_files_and_ended_batches(api, admin, ledger, worker, store):
    key, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    headers = {"Authorization": f"Bearer {token}"}
    mine, theirs = await submitted(api["anonymous"], user="bob", headers=headers), await submitted(admin)
    worker.run(mine, FIN)
    await admin.post(f"/v1/jobs/{mine}/feedback", json={"rating": 1})
    file = {"file": ("rows.jsonl", jsonl([chat_line(1)]))}
    sent = await api["anonymous"].post("/v1/files", data={"purpose": "batch"}, files=file, headers=headers)
    ask = {"input_file_id": sent.json()["id"], "endpoint": CHATS, "completion_window": "24h"}
    batch = (await api["anonymous"].post("/v1/batches", json=ask, headers=headers)).json()["id"]
    assert await told(admin, key=key.id, dry_run=True) == {"forgotten": 1, "feedback": 1, "files": 1, "open_batches": 1}
    assert await told(admin, key=key.id) == {"forgotten": 1, "feedback": 1, "files": 1, "open_batches": 1}
    assert (await admin.get(f"/v1/files/{sent.json()['id']}")).status_code == 404
    assert (await admin.get(f"/v1/jobs/{theirs}")).status_code == 200
    taken = ledger.do(calls.take_batch(60))
    record = taken.batch.entered(BatchState.CANCELLED, 1.0)
    ledger.do(calls.write_batch(batch, taken.fence, record, 0))
    assert await told(admin, key=key.id) == {"batches": 1}
    assert (await admin.get(f"/v1/batches/{batch}")).status_code == 404
    assert list(store.keys(folder_of("default", batch))) == []
    assert await told(admin, key=key.id) == {}


async def test_a_conversation_goes_with_the_label_that_it_was_kept_under(admin, api, ledger, worker):
    named = {"metadata": {"conversation_id": "talk 1"}, "user": None}
    mine, theirs = await submitted(admin, **named), await submitted(api["submit"], **named)
    other = await submitted(admin, metadata={"conversation_id": "talk 2"})
    worker.run(mine, FIN)
    await admin.post(f"/v1/jobs/{mine}/feedback", json={"rating": 1})
    kept = [
        LedgerKey.CONVERSATION.of("default", ledger.do(calls.get(one)).conversation) for one in (mine, theirs, other)
    ]
    for key in kept:
        ledger.redis.set(key, "1|0.900000|fin.sa")  # as a release that reads dialogues notes it
    assert await told(admin, conversation_id="talk 1") == {"forgotten": 1, "cancelled": 1, "feedback": 1}
    assert (await admin.get(f"/v1/jobs/{theirs}")).status_code == 404
    assert [job["id"] for job in (await admin.get("/v1/jobs")).json()["items"]] == [other]
    assert ledger.redis.mget(kept) == [None, None, "1|0.900000|fin.sa"]


async def test_versions_that_hold_rows_of_the_forgotten_are_named(admin, worker, ledger):
    job_id = await submitted(admin)
    worker.run(job_id, FIN)
    hidden = (await admin.get(f"/v1/jobs/{job_id}")).json()["request"]["user"]
    await admin.post(f"/v1/jobs/{job_id}/feedback", json={"rating": 1})
    version = (await admin.post("/v1/feedback/dataset", json={})).json()["dataset"]
    await forget(admin)
    report = (await admin.post("/v1/users/forget", json={"user_hash": hidden})).json()
    held = {"id": version["id"], "created_at": version["created_at"], "rows": 1}
    assert (report["forgotten"], report["datasets"]) == (0, [held])
    assert (await admin.delete(f"/v1/datasets/{version['id']}")).status_code == 204
    assert (await admin.post("/v1/users/forget", json={"user_hash": hidden})).json()["datasets"] == []


async def test_trainings_of_a_key_stay(admin, ledger):
    await admin.post("/v1/datasets?name=demo", content=b'{"input": "a"}\n' * 4)
    ask = {"kind": "adapter.train", "label": "fin.sa", "dataset": "demo"}
    job_id = (await admin.post("/v1/training/jobs", json=ask)).json()["id"]
    key = (await admin.get(f"/v1/training/jobs/{job_id}")).json()["key"]
    assert await told(admin, key=key) == {}
    assert (await admin.get(f"/v1/training/jobs/{job_id}")).json()["state"] == "queued"


@pytest.mark.parametrize("body", [{}, {"user": "a", "key": "b"}, {"user_hash": "ann"}, {"key": ""}])
async def test_somebody_has_to_be_named_once(admin, body):
    assert code(await admin.post("/v1/users/forget", json=body), 422) == "request_invalid"


async def test_another_tenants_key_and_an_unknown_one_are_nobodys(admin, api, ledger):
    key, _ = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    for client, name in ((api["other"], key.id), (admin, "key_none")):
        assert code(await client.post("/v1/users/forget", json={"key": name}), 404) == "key_not_found"


async def told(client, **whom):
    """What a report counts, without what it counts none of."""
    answer = await client.post("/v1/users/forget", json=whom)
    assert answer.status_code == 200, answer.text
    counted = ("forgotten", "cancelled", "feedback", "files", "batches", "open_batches")
    return {name: answer.json()[name] for name in counted if answer.json()[name]}
