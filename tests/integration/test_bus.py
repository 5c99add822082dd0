"""What goes over the wire is what Celery itself would send."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio

from shared.contracts.messages import JobMessage
from shared.errors import Unavailable
from shared.ledger.calls import Sent
from shared.names import task_of
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.queue.envelopes import Envelopes
from shared.queue.outbox import Outbox
from shared.worker.next_message import NextMessage


def take(settings, queue):
    with redis.Redis.from_url(settings.broker_url) as broker:
        message = json.loads(broker.rpop(queue))
    message["body"] = json.loads(base64.b64decode(message["body"]))
    # These are new in every message, and no consumer reads the origin.
    for part, name in (("properties", "delivery_tag"), ("properties", "reply_to"), ("headers", "origin")):
        assert message[part].pop(name)
    return message


@pytest.mark.parametrize("queue", ["select", "train", "generate.fin"])
def test_a_message_is_the_one_that_celery_sends(settings, queue):
    celery = make_celery(settings, "test")
    celery.send_task(
        task_of(queue),
        args=[JobMessage(job_id="job_1").model_dump()],
        task_id="job_1",
        queue=queue,
    )
    expected = take(settings, queue)
    bus = Bus(celery)
    for job_id in ("job_2", "job_1"):
        bus.send(Sent(job_id, queue))
    assert take(settings, queue)["body"][0] == [{"job_id": "job_2"}]
    assert take(settings, queue) == expected


def test_no_two_messages_share_a_delivery_tag(settings):
    bus = Bus(make_celery(settings, "test"))
    for _ in range(3):
        bus.send(Sent("job_1", "select"))
    with redis.Redis.from_url(settings.broker_url) as broker:
        tags = [json.loads(raw)["properties"]["delivery_tag"] for raw in broker.lrange("select", 0, -1)]
    assert len(set(tags)) == 3


def test_messages_are_taken_from_each_queue_in_turn(settings):
    bus = Bus(make_celery(settings, "test"))
    for queue in ("generate.a", "generate.a", "generate.b", "generate.b"):
        bus.send(Sent("job_1", queue))
    taking = NextMessage(bus, ["generate.a", "generate.b"], lambda: True)
    assert [taking.take() for _ in range(5)] == ["generate.a", "generate.b", "generate.a", "generate.b", None]


def test_no_message_is_taken_while_no_job_may_be(settings):
    bus = Bus(make_celery(settings, "test"))
    bus.send(Sent("job_1", "select"))
    assert NextMessage(bus, ["select"], lambda: False).take() is None
    assert bus.take(["select"], 1) == "select"


def test_a_thread_waits_while_another_one_waits_at_the_broker(settings):
    bus = Bus(make_celery(settings, "test"))
    taking, messages = NextMessage(bus, ["select"], lambda: True), 6
    with ThreadPoolExecutor(3) as threads:
        taken = [threads.submit(taking.take) for _ in range(messages)]
        for _ in range(messages):
            bus.send(Sent("job_1", "select"))
        found = [one.result() for one in taken]
    with redis.Redis.from_url(settings.broker_url) as broker:
        assert found.count("select") + broker.llen("select") == messages
    assert "select" in found


def test_without_a_broker_no_message_is_taken(settings):
    bus = Bus(make_celery(settings.model_copy(update={"broker_url": "redis://127.0.0.1:9/0"}), "test"))
    assert bus.take(["select"], 1) is None


def test_without_a_broker_sending_is_unavailable(settings):
    bus = Bus(make_celery(settings.model_copy(update={"broker_url": "redis://127.0.0.1:9/0"}), "test"))
    with pytest.raises(Unavailable, match="broker"):
        bus.send(Sent("job_1", "select"))


async def test_the_outbox_sends_what_celery_sends_and_outlives_a_message_that_cannot_be_made(settings, monkeypatch):
    made = Envelopes.of

    def fail_for_one(self, sent):
        if sent.job_id == "job_bad":
            raise RuntimeError("a fault nobody thought of")
        return made(self, sent)

    monkeypatch.setattr(Envelopes, "of", fail_for_one)
    broker = redis.asyncio.Redis.from_url(settings.broker_url)
    outbox = Outbox(broker, lambda *_: None)
    for job_id in ("job_bad", "job_1"):
        outbox.put(Sent(job_id, "select"))
    await outbox.close()
    await broker.aclose()
    make_celery(settings, "test").send_task(
        task_of("select"), args=[JobMessage(job_id="job_1").model_dump()], task_id="job_1", queue="select"
    )
    assert take(settings, "select") == take(settings, "select")


async def test_the_outbox_tells_which_message_the_broker_did_not_take():
    told = []
    outbox = Outbox(redis.asyncio.Redis.from_url("redis://127.0.0.1:9/0"), lambda sent, _: told.append(sent.job_id))
    outbox.put(Sent("job_1", "select"))
    outbox.put(Sent("job_2", "select"))
    await outbox.close()
    assert told == ["job_1", "job_2"]
