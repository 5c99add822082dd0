"""The Celery profile: a message is only the way to a worker; the ledger holds the truth, the lease is the clock."""

import base64
import json
import threading
import uuid
from collections.abc import Callable, Sequence

import kombu.transport.redis
import redis
import structlog
from celery import Celery
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.errors import Unavailable
from shared.ledger.calls import Sent
from shared.messages import JobMessage
from shared.names import task_for
from shared.settings import Settings
from shared.together import Together

# A cut connection would otherwise put all that is in flight back on the queue while it runs, and write it to files.
kombu.transport.redis.Channel.do_restore = False

log = structlog.get_logger()
SENT_HEADER = "sent_ms"


def make_celery(settings: Settings, name: str) -> Celery:
    """A Celery application with the profile that the measurements of docs/decisions/0002 asked for."""
    app = Celery(name, broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            # No second copy of unacknowledged messages: the ledger's lease decides what runs again, and when.
            "ack_emulation": False,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_create_missing_queues=True,
    )
    return app


class Envelopes:
    """Wire messages as the installed Celery writes them, made from one pattern a queue.

    `Celery.send_task` costs 0.6 ms of CPU a message, more than accepting the job does; filling in a pattern costs a
    twentieth. The pattern is what `send_task` itself hands to an in-memory broker, so no format is written down here.
    """

    _JOB, _SENT, _TAG, _BODY = "@job_id@", "@sent_ms@", "@delivery_tag@", "@body@"

    def __init__(self) -> None:
        self._celery = Celery("envelopes", broker="memory://", set_as_current=False)
        self._celery.conf.update(task_serializer="json", task_ignore_result=True, task_create_missing_queues=True)
        self._patterns: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def of(self, sent: Sent) -> str:
        """The message that tells a worker of this job."""
        pattern = self._patterns.get(sent.queue)
        if pattern is None:
            with self._lock:
                pattern = self._patterns[sent.queue] = self._pattern(sent.queue)
        envelope, body = pattern
        encoded = base64.b64encode(body.replace(self._JOB, sent.job_id).encode()).decode()
        return (
            envelope.replace(self._JOB, sent.job_id)
            .replace(self._SENT, f"{sent.sent_ms:.3f}")
            .replace(self._TAG, str(uuid.uuid4()))
            .replace(self._BODY, encoded)
        )

    def _pattern(self, queue: str) -> tuple[str, str]:
        """Envelope and body, with marks where a job's own values belong."""
        with self._celery.connection_for_write() as connection:
            self._celery.send_task(
                task_for(queue),
                args=[JobMessage(job_id=self._JOB).model_dump()],
                task_id=self._JOB,
                queue=queue,
                headers={SENT_HEADER: self._SENT},
                connection=connection,
            )
            message = connection.default_channel._get(queue)  # kombu has no public way to look at it
        body = base64.b64decode(message["body"]).decode()
        message["body"] = self._BODY
        message["properties"]["delivery_tag"] = self._TAG
        return json.dumps(message), body


class Bus:
    """Sends jobs to their queues."""

    def __init__(self, app: Celery) -> None:
        options = app.conf.broker_transport_options
        self._broker = redis.Redis.from_url(
            app.conf.broker_url,
            socket_keepalive=True,
            socket_timeout=options["socket_timeout"],
            socket_connect_timeout=options["socket_connect_timeout"],
            # Once: a pooled connection may be from before a restart; a message that comes twice is harmless.
            retry=Retry(ExponentialBackoff(cap=0.2), 1),
        )
        self._envelopes = Envelopes()
        self._together: Together[tuple[str, str], None] = Together(self._push)

    def send(self, sent: Sent) -> None:
        """Publish one message; raises `Unavailable` where the broker is down (the reconciler sends it later)."""
        try:
            self._together((sent.queue, self._envelopes.of(sent)))
        except redis.RedisError as error:
            raise Unavailable("broker_unavailable", "the broker (Redis) does not answer; try again shortly") from error

    def _push(self, messages: Sequence[tuple[str, str]]) -> list[None]:
        pipeline = self._broker.pipeline(transaction=False)
        for queue, message in messages:
            pipeline.lpush(queue, message)
        pipeline.execute()
        return [None] * len(messages)


class Outbox:
    """Publishes from a thread of its own, so that accepting a job waits for the ledger alone."""

    def __init__(self, bus: Bus, on_error: Callable[[Sent, Unavailable], None]) -> None:
        self._bus = bus
        self._on_error = on_error
        self._pending: list[Sent] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, sent: Sent) -> None:
        """Publish soon; never blocks, and never loses: the job is in the ledger, which sends it again."""
        with self._wake:
            self._pending.append(sent)
            self._wake.notify()

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Publish what is pending, then end."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while batch := self._next():
            for sent in batch:
                try:
                    self._bus.send(sent)
                except Unavailable as error:
                    self._on_error(sent, error)
                except Exception:  # without this thread the reconciler would have to send every job
                    log.exception("send_crashed", job_id=sent.job_id)

    def _next(self) -> list[Sent]:
        with self._wake:
            self._wake.wait_for(lambda: self._pending or self._closed)
            batch, self._pending = self._pending, []
            return batch
