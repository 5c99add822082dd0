"""The base of every Celery service: clients, leases, reconciler, and a worker that runs until SIGTERM."""

import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog
from celery import Celery, signals
from celery.worker import state as celery_state

from shared.contracts.manifests import Release
from shared.ledger import Ledger
from shared.names import CANCEL_CHANNEL, TaskName, queue_on_base
from shared.process import collect_garbage_rarely
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.queue.reconciler import Reconciler
from shared.redis_servers import check_servers
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings
from shared.worker import probes
from shared.worker.attempt import Attempt, AttemptRunner
from shared.worker.event_writer import EventWriter
from shared.worker.leases import LeaseKeeper
from shared.worker.next_message import NextMessage
from shared.worker.turnstile import Turnstile

log = structlog.get_logger()
_told_to_end = threading.Event()


def end_on_sigterm() -> None:
    """End the process at once on SIGTERM, until the worker sets its own handler.

    The first process of a container ignores a signal without a handler: on a SIGTERM during the load of a model, it
    would load on, take jobs, and be killed while they run.
    """
    signal.signal(signal.SIGTERM, lambda *_: _end())


def _end() -> None:
    _told_to_end.set()
    sys.exit(0)


class Service:
    """The clients of one process; each service adds its own handler and task."""

    def __init__(self, settings: Settings, name: str, queues: Sequence[str], *, concurrency: int) -> None:
        check_servers(settings)
        self.settings = settings
        self.name = name
        self.owner = f"{name}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._queues = list(queues)  # of the heartbeats too
        self.misfit = ""
        """Why the process is not ready although it is present; empty where nothing is wrong."""
        self.turnstile = Turnstile()
        """Holds messages back while the process can do no job, and may end it."""
        self.stuck_seconds: Callable[[], float] = lambda: 0.0
        """For how long the process's work has made no step; above a limit it is not alive."""
        self._worker: Any = None
        self._lock = threading.Lock()  # guards the queues until the worker has them
        self._concurrency = concurrency
        self.info: dict[str, Any] = {"service": name, "pid": os.getpid()}
        self.ledger = Ledger(settings.redis_url, **settings.ledger_options)
        self.celery: Celery = make_celery(settings, name)
        self.bus = Bus(self.celery)
        self.store = S3Store(settings)
        self.registry = Registry(self.ledger, self.store, settings.cache_dir)
        self.leases = LeaseKeeper(self.ledger, settings, owner=self.owner, queues=self._queues, info=lambda: self.info)
        self.events = EventWriter(self.ledger)
        self._attempts = AttemptRunner(self.ledger, self.bus, self.leases, self.events, self.owner)
        self._reconciler = Reconciler(self.ledger, self.bus, settings, self.owner)
        self._releases: dict[tuple[str, str], Release] = {}
        self._runs_once = False
        self._next_message = NextMessage(self.bus, self._queues, self._takes_more)

    def release(self, tenant_id: str, release_id: str) -> Release:
        """Return a release by id, from a cache: releases never change."""
        known = self._releases.get((tenant_id, release_id))
        if known is None:
            known = self._releases[tenant_id, release_id] = self.registry.releases.get(tenant_id, release_id)
        return known

    def serve_base(self, base_model: str) -> None:
        """Name the base model that this process serves, and consume the jobs that others have left to such processes.

        Call it once, before or while the service runs.
        """
        self.info["base_model"] = base_model
        with self._lock:
            for plain in list(self._queues):
                self._consume(queue_on_base(plain, base_model), plain)

    def also_serve(self, queue: str) -> None:
        """Consume one more queue, and what others have left there to processes with this one's base model."""
        with self._lock:
            self._consume(queue, queue)
            if base_model := self.info.get("base_model"):
                self._consume(queue_on_base(queue, base_model), queue)

    def _consume(self, queue: str, exchange: str) -> None:
        # A service may only bind queues to its own exchanges (`redis_acl.py`).
        self.celery.amqp.queues.add(queue, exchange=exchange, routing_key=queue)
        self._queues.append(queue)
        if self._worker:
            self._worker.consumer.call_soon(self._worker.consumer.add_task_queue, queue)

    def on(self, task: TaskName, work: Callable[[Attempt], None]) -> None:
        """Register the service's one task: for each message, whatever it says, an attempt at its queue's next job."""

        @self.celery.task(name=task, bind=True)  # type: ignore[untyped-decorator]
        def door(request: Any, _message: object) -> None:
            if self._runs_once:
                _take_no_more()
            queue = request.request.delivery_info["routing_key"]
            while queue and self.turnstile.passes():
                self._attempts.run(queue, work)
                queue = None if self._runs_once else self._next_message.take()

    def _takes_more(self) -> bool:
        return not self.turnstile.why and celery_state.should_stop is None

    def run_once(self, idle_seconds: float) -> None:
        """Serve one message, or end after `idle_seconds` without one; for processes that an autoscaler starts."""
        self._runs_once = True
        idle = threading.Timer(idle_seconds, _take_no_more)
        idle.daemon = True
        idle.start()
        self.run()

    def run(self) -> None:
        """Serve the queues until SIGTERM; then finish the running jobs, or return them at the drain deadline."""
        collect_garbage_rarely()
        self.leases.start()
        probes.serve(self.settings, self.leases, self.hindrances, self.stuck_seconds)
        self._reconciler.start()
        threading.Thread(target=self._follow_cancels, name="cancel-hints", daemon=True).start()
        signals.worker_shutting_down.connect(self._on_shutdown, weak=False)
        log.info("service_ready", service=self.name, queues=self._queues, owner=self.owner)
        with self._lock:
            self._worker = self._celery_worker()
        try:
            if _told_to_end.is_set():  # in a finaliser, where Python drops the exception that should have ended it
                sys.exit(0)
            self._worker.start()
        finally:
            self._reconciler.stop()
            self.leases.close()
        log.info("service_ended", service=self.name)
        if self.turnstile.is_broken:
            sys.exit(f"{self.name}: {self.turnstile.why}")

    def hindrances(self) -> list[str]:
        """Return why the process is not ready although it is present; empty where nothing is wrong."""
        reasons = {"base model": self.misfit, "work": self.turnstile.why}
        return [f"{name}: {why}" for name, why in reasons.items() if why]

    def end_broken(self, why: str) -> None:
        """Take no more jobs, let the running ones be given back, and end the process with an error: a new one helps."""
        self.turnstile.end(why, is_broken=True)
        _take_no_more()

    def _celery_worker(self) -> Any:
        return self.celery.Worker(
            pool="threads",
            concurrency=self._concurrency,
            queues=self._queues,
            hostname=self.owner,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="WARNING",
            quiet=True,
        )

    def _on_shutdown(self, **_: Any) -> None:
        self.turnstile.end()
        timer = threading.Timer(self.settings.drain_seconds, self.leases.drain)
        timer.daemon = True
        timer.start()

    def _follow_cancels(self) -> None:
        while True:
            try:
                self._take_hints()
            except redis.RedisError:
                threading.Event().wait(1)  # Redis is away; when it is back, heartbeats report cancels too
            except Exception:  # without this thread, a cancel waits for the next heartbeat
                log.exception("cancel_hints_crashed")

    def _take_hints(self) -> None:
        with self.ledger.redis.pubsub(ignore_subscribe_messages=True) as hints:  # type: ignore[no-untyped-call]
            hints.subscribe(CANCEL_CHANNEL)
            while True:
                message = hints.get_message(timeout=3)
                if message:
                    self.leases.stop_job(message["data"], "cancel")


def _take_no_more() -> None:
    """Let the worker finish its running jobs, then end."""
    celery_state.should_stop = os.EX_OK
