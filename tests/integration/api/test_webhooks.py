"""Webhooks against a real receiver: what is told, how it is signed, and that nothing is lost on the way."""

import asyncio
import contextlib
import json

import openai
import pytest
from openai.types.webhooks import FineTuningJobSucceededWebhookEvent
from signalbox import AsyncSignalbox
from standardwebhooks import Webhook, WebhookVerificationError

from services.api.webhooks import delivery
from services.api.webhooks.delivery import deliver
from shared.contracts.batches import Batch, BatchState
from shared.contracts.jobs import JobState, NewJob, Stage
from shared.contracts.webhooks import EVENTS, MAX_ENDPOINTS, PAUSES_SECONDS
from shared.ledger import AsyncLedger, calls
from shared.ledger.keys import LedgerKey
from shared.security.sealed import Sealed, new_key
from tests.support.api import client_of, code, serving
from tests.support.eventually import eventually_async
from tests.support.receiver import OK, receiving, status

KEY = new_key()


@pytest.fixture
def settings(settings):
    return settings.model_copy(
        update={
            "webhook_key": type(settings.webhook_key)(KEY),
            "webhook_inner_hosts": "127.0.0.7",
            "webhook_seconds": 1.0,
        }
    )


@pytest.fixture
async def receiver():
    async with receiving("127.0.0.7") as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def delivering(settings):
    ledger, stop = AsyncLedger(settings.redis_url), asyncio.Event()
    task = asyncio.create_task(deliver(ledger, settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task
        await ledger.close()


@pytest.fixture
async def hook(api, receiver):
    """Adds an endpoint of the receiver."""

    async def add(*events, url=receiver.url, by="admin"):
        answer = await api[by].post(
            "/v1/webhooks", json={"url": url, "event_types": list(events) or ["*"], "name": "n"}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    return add


def submit(ledger, job_id, tenant="default", stage=Stage.GENERATE, **more):
    queue = {"train": "train", "select": "select"}.get(stage, "generate.fin")
    kind = "train" if stage is Stage.TRAIN else "generate"
    body = {"kind": "adapter.train", "fine_tuning": {"model": "base"}} if stage is Stage.TRAIN else {}
    body = {"kind": "adapter.train", "fine_tuning": {"model": "base"}} if stage is Stage.TRAIN else {}
    job = NewJob(id=job_id, tenant_id=tenant, kind=kind, stage=stage, queue=queue, body=body, **more)
    ledger.do(calls.create(job, 60))
    return queue


def end(ledger, job_id, state=JobState.SUCCEEDED, **more):
    queue = submit(ledger, job_id, **more)
    job = ledger.do(calls.acquire(job_id, queue, "worker", 15.0))
    ledger.do(calls.finish(job, state))


async def deliveries(api, hook, by="admin"):
    answer = await api[by].get(f"/v1/webhooks/{hook['id']}/deliveries")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def until_state(api, hook, *states):
    async def look():
        found = await deliveries(api, hook)
        return found if [one["state"] for one in found] == list(states) else None

    return await eventually_async(look, f"deliveries {states}")


async def test_a_jobs_end_is_told_signed_and_without_its_texts(settings, ledger, api, receiver, hook):
    made = await hook("job.*")
    end(ledger, "job_1", label="bank.cards")
    async with delivering(settings):
        (sent,) = await receiver.count(1)
        (told,) = await until_state(api, made, "delivered")
    assert Webhook(made["signing_secret"]).verify(sent.body, sent.headers) == sent.event
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "a" * 43).verify(sent.body, sent.headers)
    assert sent.headers["webhook-id"] == sent.event["id"] == told["id"]
    assert sent.event["type"] == "job.succeeded"
    assert sent.event["data"] == {"id": "job_1", "state": "succeeded", "label": "bank.cards"}
    assert (told["attempts"], told["status_code"], told["next_try_at"]) == (1, 204, None)


async def test_openais_client_manages_endpoints_and_unwraps_its_own_events(settings, ledger, api, receiver, tokens):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["admin"], max_retries=0) as client:
        made = await client.webhooks.create(name="n", url=receiver.url, event_types=["fine_tuning.job.succeeded"])
        assert [one.id async for one in client.webhooks.list()] == [made.id]
        assert (await client.webhooks.retrieve(made.id)).signing_secret_hint.endswith(made.signing_secret[-4:])
        assert (await client.webhooks.event_types.list()).data == list(EVENTS)
        end(ledger, "job_t", stage=Stage.TRAIN)
        async with delivering(settings):
            (sent,) = await receiver.count(1)
        event = client.webhooks.unwrap(sent.body, sent.headers, secret=made.signing_secret)
        assert isinstance(event, FineTuningJobSucceededWebhookEvent)
        assert event.data.id == "job_t"
        tested = await client.webhooks.test(made.id, event_type="batch.completed")
        assert (tested.status_code, receiver.sent[-1].event["type"]) == (204, "batch.completed")
        rotated = await client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        assert rotated.signing_secret != made.signing_secret
        changed = await client.webhooks.update(made.id, name="other", event_types=["batch.failed"])
        assert (changed.name, changed.event_types, changed.url) == ("other", ["batch.failed"], receiver.url)
        assert (await client.webhooks.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.webhooks.retrieve(made.id)


async def has_expired(ledger, job_id):
    ledger.do(calls.expire("generate.fin"))
    return ledger.do(calls.get(job_id)).state.is_final


async def test_every_road_to_an_end_is_told(ledger, api, hook, worker):
    made = await hook("*")
    end(ledger, "job_ok")
    end(ledger, "job_bad", JobState.FAILED)
    end(ledger, "job_no", JobState.REJECTED, stage=Stage.SELECT)
    submit(ledger, "job_cancelled")
    ledger.do(calls.cancel("job_cancelled", "default"))
    queue = submit(ledger, "job_running")
    job = worker.take("job_running", queue)
    ledger.do(calls.cancel("job_running", "default"))
    with contextlib.suppress(calls.CancelledMeanwhile):
        ledger.do(calls.release_unfinished(job))
    submit(ledger, "job_dead")
    worker.lose("job_dead", "generate.fin", 3)
    submit(ledger, "job_late", deadline_seconds=0.001)
    await eventually_async(lambda: has_expired(ledger, "job_late"), "its deadline passes")
    submit(ledger, "job_first")
    submit(ledger, "job_after", after=("job_first",))
    ledger.do(calls.cancel("job_first", "default"))
    told = {(one["event_type"], one["data"]["id"]) for one in await deliveries(api, made)}
    assert told == {
        ("job.succeeded", "job_ok"),
        ("job.failed", "job_bad"),
        ("job.rejected", "job_no"),
        ("job.cancelled", "job_cancelled"),
        ("job.cancelled", "job_running"),
        ("job.dead", "job_dead"),
        ("job.failed", "job_late"),
        ("job.cancelled", "job_first"),
        ("job.failed", "job_after"),
    }


async def test_the_end_of_a_batch_is_told_once_by_openais_name(ledger, api, hook):
    made = await hook("batch.*")
    asked = {"key": "", "key_line": "", "endpoint": "/v1/completions", "input_file_id": "file-x", "sha256": "0" * 64}
    batch = Batch(
        id="batch_1", tenant_id="default", **asked, output_kept_seconds=0, times={"created": 0}, expires_at=9e9
    )
    ledger.do(calls.create_batch(batch))
    fence = ledger.do(calls.take_batch(60)).fence
    for state in (BatchState.IN_PROGRESS, BatchState.EXPIRED, BatchState.EXPIRED):
        ledger.do(calls.write_batch(batch.id, fence, batch.entered(state, 1), 60))
    assert [(one["event_type"], one["data"]) for one in await deliveries(api, made)] == [
        ("batch.expired", {"id": "batch_1"})
    ]


async def test_moves_of_the_release_are_told(api, hook, release, registry):
    made = await hook("release.*")
    registry.releases.rollback("default", to=release.id, force=True)
    (told,) = await deliveries(api, made)
    assert (told["event_type"], told["data"]["id"]) == ("release.rolled_back", release.id)


async def test_an_endpoint_gets_what_it_wants_of_its_own_tenant(ledger, api, hook):
    wants, others = await hook("job.failed", "batch.*"), await hook("*", by="other")
    end(ledger, "job_ok")
    end(ledger, "job_bad", JobState.FAILED)
    assert [one["data"]["id"] for one in await deliveries(api, wants)] == ["job_bad"]
    assert await deliveries(api, others, by="other") == []
    path = f"/v1/webhooks/{wants['id']}"
    for method, tail, body in (
        ("GET", "", None), ("POST", "", {}), ("DELETE", "", None), ("GET", "/deliveries", None),
        ("POST", "/rotate_secret", None), ("POST", "/test", None), ("POST", "/deliveries/evt_x/replay", None),
    ):  # fmt: skip
        answer = await api["other"].request(method, path + tail, json=body)
        assert code(answer, 404) in ("webhook_not_found", "delivery_not_found"), (method, tail)


async def test_a_failed_delivery_is_tried_again_and_then_made(settings, ledger, api, receiver, hook, monkeypatch):
    monkeypatch.setattr(delivery, "pause_seconds", lambda attempts, _: 0.1 if attempts < 4 else None)
    made = await hook("*")
    receiver.answer = lambda _: OK if len(receiver.sent) > 2 else status(500)
    end(ledger, "job_1")
    async with delivering(settings):
        sent = await receiver.count(3)
        (told,) = await until_state(api, made, "delivered")
    assert len({one.body for one in sent}) == len({one.headers["webhook-id"] for one in sent}) == 1
    assert told["attempts"] == 3
    shown = (await api["admin"].get(f"/v1/webhooks/{made['id']}")).json()
    assert (shown["waiting"], shown["failing_since"]) == (0, None)


async def test_what_failed_for_good_is_replayed(settings, ledger, api, receiver, hook, monkeypatch):
    monkeypatch.setattr(delivery, "pause_seconds", lambda *_: None)
    made = await hook("*")
    receiver.answer = lambda _: status(503)
    end(ledger, "job_1")
    async with delivering(settings):
        (told,) = await until_state(api, made, "failed")
        assert (told["status_code"], told["error"]) == (503, "the endpoint answered 503")
        receiver.answer = lambda _: OK
        path = f"/v1/webhooks/{made['id']}/deliveries/{told['id']}/replay"
        assert (await api["admin"].post(path)).json()["state"] == "waiting"
        await until_state(api, made, "delivered")
    assert [one.headers["webhook-id"] for one in receiver.sent] == [told["id"]] * 2


async def test_the_old_secret_signs_beside_the_new_one_unless_it_is_dropped(settings, ledger, api, receiver, hook):
    made = await hook("*")
    path = f"/v1/webhooks/{made['id']}/rotate_secret"
    second = (await api["admin"].post(path)).json()["signing_secret"]
    end(ledger, "job_1")
    async with delivering(settings):
        (sent,) = await receiver.count(1)
        for secret in (made["signing_secret"], second):
            Webhook(secret).verify(sent.body, sent.headers)
        third = (await api["admin"].post(path, json={"keep_old_secret_active_for_24_hours": False})).json()
        end(ledger, "job_2")
        last = (await receiver.count(2))[-1]
    Webhook(third["signing_secret"]).verify(last.body, last.headers)
    for secret in (made["signing_secret"], second):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(last.body, last.headers)


async def test_secrets_are_sealed_and_shown_once(api, hook, ledger):
    made = await hook("*")
    secret = made["signing_secret"]
    stored = ledger.redis.hgetall(LedgerKey.WEBHOOK.of(made["id"]))
    assert secret not in json.dumps(stored)
    assert Sealed(f"{new_key()},{KEY}").open(stored["secret"]) == secret
    for path in ("/v1/webhooks", f"/v1/webhooks/{made['id']}", f"/v1/webhooks/{made['id']}/deliveries"):
        assert secret not in (await api["admin"].get(path)).text


async def test_without_a_key_of_the_settings_there_are_no_webhooks(settings, tokens, receiver):
    bare = settings.model_copy(update={"webhook_key": type(settings.webhook_key)("")})
    async with serving(bare) as (_, url), client_of(url, tokens["admin"]) as admin:
        answer = await admin.post("/v1/webhooks", json={"url": receiver.url, "event_types": ["*"]})
    assert code(answer, 409) == "webhook_key_missing"
    assert "SIGNALBOX_WEBHOOK_KEY" in answer.json()["detail"]


async def test_a_disabled_endpoint_keeps_what_waits_and_is_told_of_nothing_new(settings, ledger, api, receiver, hook):
    made = await hook("*")
    path = f"/v1/webhooks/{made['id']}"
    end(ledger, "job_1")
    await api["admin"].post(path, json={"enabled": False})
    end(ledger, "job_2")
    async with delivering(settings):
        async with hook_other(api, receiver) as other:  # its delivery shows that the loop has been round
            end(ledger, "job_3")
            await until_state(api, other, "delivered")
        assert [sent.event["data"]["id"] for sent in receiver.sent] == ["job_3"]
        assert code(await api["admin"].post(f"{path}/deliveries/{(await deliveries(api, made))[0]['id']}/replay"), 409)
        await api["admin"].post(path, json={"enabled": True})
        await until_state(api, made, "delivered")
    assert receiver.sent[-1].event["data"]["id"] == "job_1"


@contextlib.asynccontextmanager
async def hook_other(api, receiver):
    made = await api["admin"].post("/v1/webhooks", json={"url": receiver.url, "event_types": ["*"]})
    yield made.json()


async def test_an_endpoint_that_only_fails_for_three_days_is_disabled(settings, ledger, api, receiver, hook):
    made, watching = await hook("job.*"), await hook("endpoint.*")
    receiver.answer = lambda _: status(500)
    four_days_ago = ledger.redis.time()[0] * 1000 - 4 * 86_400_000
    ledger.redis.hset(LedgerKey.WEBHOOK.of(made["id"]), "failing_since", four_days_ago)
    end(ledger, "job_1")
    async with delivering(settings):
        await until_state(api, made, "noted", "waiting")
    shown = (await api["admin"].get(f"/v1/webhooks/{made['id']}")).json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "every delivery has failed for three days")
    assert (await deliveries(api, made))[0]["event_type"] == "endpoint.disabled"
    assert [one["data"]["id"] for one in await deliveries(api, watching)] == [made["id"]]
    # Three days later its time is over: it is dropped, and counted.
    (_, waiting) = await deliveries(api, made)
    ledger.redis.hset(LedgerKey.DELIVERY.of(made["id"], waiting["id"]), "created", four_days_ago)
    ledger.redis.zadd(LedgerKey.UNDELIVERED.of(made["id"]), {waiting["id"]: 0})
    ledger.redis.zadd(LedgerKey.DUE, {made["id"]: 0})
    async with delivering(settings):
        await until_state(api, made, "noted")
    assert (await api["admin"].get(f"/v1/webhooks/{made['id']}")).json()["dropped"] == 1


async def test_an_endpoint_that_is_gone_is_disabled_at_once(settings, ledger, api, receiver, hook):
    made = await hook("*")
    receiver.answer = lambda _: status(410)
    end(ledger, "job_1")
    async with delivering(settings):
        await until_state(api, made, "noted", "waiting")
    assert "410" in (await api["admin"].get(f"/v1/webhooks/{made['id']}")).json()["disabled_reason"]


@pytest.mark.parametrize(("failing_seconds", "at_once"), [(30, delivery.AT_ONCE), (90, 1)])
async def test_a_silent_receiver_holds_up_nobody_else(settings, ledger, api, receiver, hook, failing_seconds, at_once):
    patient = settings.model_copy(update={"webhook_seconds": 30.0})
    released = asyncio.Event()

    async def hang(_, writer):
        await released.wait()
        writer.write(OK)

    async with receiving("127.0.0.7") as silent:
        silent.answer = lambda _: hang
        made = await hook("*", url=silent.url)
        since = (ledger.redis.time()[0] - failing_seconds) * 1000
        ledger.redis.hset(LedgerKey.WEBHOOK.of(made["id"]), "failing_since", since)
        for number in range(30):
            end(ledger, f"job_{number}")
        await hook("*")
        async with delivering(patient):
            await silent.count(at_once)
            for number in range(30, 60):
                end(ledger, f"job_{number}")
            await receiver.count(30)
            assert silent.connections == at_once
            released.set()


UNUSABLE = {
    "the endpoint did not answer within 0.5 s": None,
    "the endpoint answered 307; redirects are not followed": status(307, "Location: http://127.0.0.1:1/"),
    "the endpoint does not answer: illegal": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "the endpoint does not answer: Receive buffer": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "the endpoint does not answer: Server disconnected": b"",
}


async def test_answers_of_no_use_are_told_and_tried_again(settings, ledger, api, receiver, hook):
    answers = {f"/{number}": answer for number, answer in enumerate(UNUSABLE.values())}
    hooks = [await hook("*", url=receiver.url.replace("/hook", path)) for path in answers]
    receiver.answer = lambda sent: answers[sent.path]
    end(ledger, "job_1")
    async with delivering(settings.model_copy(update={"webhook_seconds": 0.5})):

        async def look():
            told = [(await deliveries(api, made))[0] for made in hooks]
            return told if all(one["attempts"] for one in told) else None

        told = await eventually_async(look, "a try each")
    for one, error in zip(told, UNUSABLE, strict=True):
        assert one["error"].startswith(error)
        assert (one["state"], one["attempts"]) == ("waiting", 1)
        assert abs(one["next_try_at"] - one["tried_at"] - PAUSES_SECONDS[0]) <= 2


async def test_of_an_endless_answer_nothing_is_read(settings, ledger, api, receiver, hook):
    made, sent_bytes = await hook("*"), 0

    async def endless(_, writer):
        nonlocal sent_bytes
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent_bytes += 65536
            await writer.drain()

    receiver.answer = lambda _: endless
    end(ledger, "job_1")
    async with delivering(settings):
        await until_state(api, made, "delivered")
    assert sent_bytes < 50 << 20


REFUSED = {
    "https://127.0.0.2/": "address_refused",
    "https://169.254.169.254/latest/meta-data": "address_refused",
    "https://[::1]/": "address_refused",
    "https://localhost/": "address_refused",
    "https://2130706433/": "address_refused",
    "https://metadata.google.internal/": "address_unknown",
    "http://example.com/": "url_refused",
    "https://user@example.com/": "url_refused",
    "ftp://example.com/": "url_refused",
    "nothing": "url_refused",
}


async def test_an_url_that_is_not_called_is_refused_at_once(api, hook):
    made = await hook("*")
    for url, why in REFUSED.items():
        for path in ("/v1/webhooks", f"/v1/webhooks/{made['id']}"):
            answer = await api["admin"].post(path, json={"url": url, "event_types": ["*"]})
            assert code(answer, 400) == why, url
            assert answer.json()["error"]["code"] == why
    assert (await api["admin"].get(f"/v1/webhooks/{made['id']}")).json()["url"] == made["url"]


async def test_a_name_that_points_inside_later_is_not_called(settings, ledger, api, receiver, hook):
    made = await hook("*")
    port = receiver.url.split(":")[2].split("/")[0]
    ledger.redis.hset(LedgerKey.WEBHOOK.of(made["id"]), "url", f"https://localhost:{port}/")
    end(ledger, "job_1")
    async with delivering(settings):

        async def look():
            (told,) = await deliveries(api, made)
            return told["error"]

        assert "no address of the public internet" in await eventually_async(look, "a try")
    assert receiver.connections == 0


async def test_a_tenant_has_so_many_endpoints_and_no_more(api, receiver):
    body = {"url": receiver.url, "event_types": ["*"]}
    answers = [await api["admin"].post("/v1/webhooks", json=body) for _ in range(MAX_ENDPOINTS + 1)]
    assert [answer.status_code for answer in answers] == [201] * MAX_ENDPOINTS + [409]
    assert code(answers[-1], 409) == "too_many_webhooks"
    listed = (await api["admin"].get("/v1/webhooks")).json()
    assert len(listed["data"]) == MAX_ENDPOINTS
    page = (await api["admin"].get("/v1/webhooks", params={"limit": 5, "after": listed["data"][9]["id"]})).json()
    assert [one["id"] for one in page["data"]] == [one["id"] for one in listed["data"][10:15]]
    assert (page["has_more"], page["last_id"]) == (True, page["data"][-1]["id"])


async def test_unknown_events_are_refused_by_name(api):
    answer = await api["admin"].post("/v1/webhooks", json={"url": "https://example.com", "event_types": ["job.done"]})
    assert answer.status_code == 400
    assert "job.done" in answer.text


async def test_deliveries_are_bounded_and_what_is_dropped_is_counted(ledger, api, hook):
    made = await hook("*")
    waiting = LedgerKey.UNDELIVERED.of(made["id"])
    ledger.redis.zadd(waiting, {f"evt_{number}": 9e12 + number for number in range(10_000)})
    end(ledger, "job_1")
    assert ledger.redis.zcard(waiting) == 10_000
    assert ledger.redis.zscore(waiting, "evt_9999") is None
    assert (await api["admin"].get(f"/v1/webhooks/{made['id']}")).json()["dropped"] == 1


async def test_what_ended_is_forgotten_with_its_bytes(settings, ledger, api, receiver, hook):
    made = await hook("*")
    end(ledger, "job_1")
    assert int(ledger.redis.hget(LedgerKey.HELD, "default")) > 1000
    async with delivering(settings):
        await until_state(api, made, "delivered")
    while ledger.do(calls.forget("default", 100, free_bytes=1 << 30, min_ttl_seconds=0)).records:
        pass
    assert await deliveries(api, made) == []
    assert int(ledger.redis.hget(LedgerKey.HELD, "default")) == 0


async def test_nothing_is_left_of_a_deleted_endpoint(ledger, api, hook):
    made = await hook("*")
    for number in range(3):
        end(ledger, f"job_{number}")
    before = int(ledger.redis.hget(LedgerKey.HELD, "default"))
    await api["admin"].delete(f"/v1/webhooks/{made['id']}")
    assert before - int(ledger.redis.hget(LedgerKey.HELD, "default")) == 3000
    assert not [key for key in ledger.redis.keys("sb:*") if made["id"] in key]
    assert ledger.redis.zcard(LedgerKey.DUE) == 0


async def test_a_loop_that_dies_loses_nothing(settings, ledger, api, receiver, hook):
    made = await hook("*")
    receiver.answer = lambda _: None
    end(ledger, "job_1")
    own = AsyncLedger(settings.redis_url)
    task = asyncio.create_task(deliver(own, settings.model_copy(update={"webhook_seconds": 30.0}), asyncio.Event()))
    await receiver.count(1)
    task.cancel()
    for under_way in [one for one in asyncio.all_tasks() if "_Courier._make" in repr(one)]:
        under_way.cancel()
    await own.close()
    receiver.answer = lambda _: OK
    waiting = LedgerKey.UNDELIVERED.of(made["id"])
    ((event, claimed_until),) = ledger.redis.zrange(waiting, 0, -1, withscores=True)
    assert claimed_until > ledger.redis.time()[0] * 1000 + 30_000
    ledger.redis.zadd(waiting, {event: 0})  # its claim is over
    ledger.redis.zadd(LedgerKey.DUE, {made["id"]: 0})
    async with delivering(settings):
        (told,) = await until_state(api, made, "delivered")
    assert [sent.headers["webhook-id"] for sent in receiver.sent] == [told["id"]] * 2


async def test_a_new_key_before_the_old_one_seals_all_secrets_anew(settings, ledger, api, receiver, hook):
    made, new = await hook("*"), new_key()
    rotating = settings.model_copy(update={"webhook_key": type(settings.webhook_key)(f"{new},{KEY}")})
    end(ledger, "job_1")
    async with delivering(rotating):
        (sent,) = await receiver.count(1)
        await until_state(api, made, "delivered")
    Webhook(made["signing_secret"]).verify(sent.body, sent.headers)
    assert Sealed(new).open(ledger.redis.hget(LedgerKey.WEBHOOK.of(made["id"]), "secret")) == made["signing_secret"]


async def test_a_secret_that_no_key_opens_is_said_so(settings, ledger, api, receiver, hook):
    made = await hook("*")
    other = settings.model_copy(update={"webhook_key": type(settings.webhook_key)(new_key())})
    end(ledger, "job_1")
    async with delivering(other):

        async def look():
            return (await deliveries(api, made))[0]["error"]

        assert "SIGNALBOX_WEBHOOK_KEY" in await eventually_async(look, "a try")
    assert receiver.connections == 0


async def test_our_client_has_all_of_it(settings, ledger, api, receiver, tokens):
    async with AsyncSignalbox(api["url"], tokens["admin"]) as client:
        made = await client.create_webhook(receiver.url, ["job.*"], name="n")
        assert made.signing_secret.startswith("whsec_")
        assert [one.id for one in await client.webhooks()] == [made.id]
        assert (await client.try_webhook(made.id))["status_code"] == 204
        end(ledger, "job_1")
        async with delivering(settings):
            await receiver.count(2)
            await until_state(api, {"id": made.id}, "delivered")
        (told,) = await client.webhook_deliveries(made.id)
        assert (await client.replay_delivery(made.id, told.id)).state == "waiting"
        assert not (await client.update_webhook(made.id, enabled=False)).enabled
        assert (await client.webhook(made.id)).waiting == 1
        assert (await client.rotate_webhook_secret(made.id)).signing_secret != made.signing_secret
        await client.delete_webhook(made.id)
        assert await client.webhooks() == []


async def test_commands(ledger, receiver, command):
    async def run(*words):
        process = command("webhooks", *words)
        out, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, err
        return out

    made = json.loads(await run("create", receiver.url, "--event", "job.*", "--json"))
    end(ledger, "job_1")
    assert "job.succeeded" in await run("deliveries", made["id"])
    assert json.loads(await run("disable", made["id"], "--json"))["enabled"] is False
    assert await run("delete", made["id"]) == f"deleted {made['id']}\n"
