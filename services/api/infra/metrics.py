"""Prometheus metrics of the API: requests by route, accept latency, queue depths; no label names a job or tenant."""

import asyncio
import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.http.problems import PROBLEM
from services.api.infra.ledger_room import LedgerRoom
from shared.errors import Unavailable
from shared.ledger import AsyncLedger, calls
from shared.ledger.room import Room

LEDGER_TIMEOUT_SECONDS = 2.0
"""How long a scrape waits for the ledger: less than Prometheus' own timeout, else a hung ledger fails the scrape."""
GIVEN_UP = ("attempts_exhausted", "deadline_exceeded")
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one application, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "signalbox_http_request_seconds",
            "HTTP requests by route; of a stream, the time to its first byte",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.accepts = Histogram(
            "signalbox_accept_seconds", "From a job's arrival to its 202", buckets=_SECONDS, registry=self.registry
        )
        self.refusals = Counter(
            "signalbox_refused", "Requests answered with a problem", ["status", "reason"], registry=self.registry
        )
        self.event_readers = Gauge("signalbox_event_readers", "Open event streams", registry=self.registry)
        self.ledger_up = Gauge("signalbox_ledger_up", "Whether the ledger answers", registry=self.registry)
        self._used = self._ledger_gauge("used_bytes", "Memory in use")
        self._most = self._ledger_gauge("max_bytes", "The most memory that the server takes; 0 where it has no limit")
        self._takes_jobs = self._ledger_gauge("takes_jobs", "Whether there is room for new jobs")
        self._fullest = self._ledger_gauge("fullest_tenant_ratio", "Share of its budget that the fullest tenant holds")
        self._waiting = self._queue_gauge("waiting", "Jobs that wait")
        self._running = self._queue_gauge("running", "Jobs under a lease")
        self._consumers = self._queue_gauge("consumers", "Live consumers")
        self._states = Gauge("signalbox_jobs", "Jobs by state; aggregate with max", ["state"], registry=self.registry)
        self._given_up = Gauge(
            "signalbox_jobs_given_up",
            "Jobs that the ledger ended itself since it began; aggregate with max",
            ["reason"],
            registry=self.registry,
        )

    def _ledger_gauge(self, what: str, text: str) -> Gauge:
        return Gauge(f"signalbox_ledger_{what}", f"{text}; aggregate with max", registry=self.registry)

    def _queue_gauge(self, what: str, text: str) -> Gauge:
        name = f"signalbox_queue_{what}"
        # Every API process exports the same value: aggregate with max, never with sum.
        return Gauge(name, f"{text}; aggregate with max", ["queue"], registry=self.registry)

    async def render(self, ledger: AsyncLedger, room: LedgerRoom, event_readers: int) -> bytes:
        """Return the current metrics as text; without the ledger, those read from the ledger are missing."""
        self.event_readers.set(event_readers)
        for gauge in (self._waiting, self._running, self._consumers, self._states, self._given_up):
            gauge.clear()
        try:
            async with asyncio.timeout(LEDGER_TIMEOUT_SECONDS):
                gauges, now = await ledger.do(calls.gauges()), await room.look()
        except (Unavailable, TimeoutError):
            self.ledger_up.set(0)
            return generate_latest(self.registry)
        self._take(gauges)
        self._take_room(now, gauges.held)
        return generate_latest(self.registry)

    def _take(self, gauges: calls.Gauges) -> None:
        self.ledger_up.set(1)
        for gauge in gauges.queues:
            self._waiting.labels(gauge.queue).set(gauge.waiting)
            self._running.labels(gauge.queue).set(gauge.running)
            self._consumers.labels(gauge.queue).set(gauge.consumers)
        for state, count in gauges.states.items():
            self._states.labels(state).set(count)
        for reason in GIVEN_UP:
            self._given_up.labels(reason).set(gauges.given_up.get(reason, 0))

    def _take_room(self, room: Room, held: Mapping[str, int]) -> None:
        self._used.set(room.used)
        self._most.set(room.most)
        self._takes_jobs.set(not room.is_full)
        self._fullest.set(max(held.values(), default=0) / room.budget.most_bytes if room.most else 0)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Record one answered request."""
        path = getattr(scope.get("route"), "path", "")
        route = scope.get("root_path", "") + path if path else "other"
        self.requests.labels(scope["method"], route, str(status)).observe(seconds)
        if status >= 400:
            self.count_refusal(status, scope.get(PROBLEM, "internal_error"))
        elif status == 202 and route in ("/v1/jobs", "/v1/training/jobs"):
            self.accepts.observe(seconds)

    def count_refusal(self, status: int, reason: str) -> None:
        """Record one refusal, also of a connection that never became a request."""
        self.refusals.labels(str(status), reason).inc()


class CountRequests:
    """ASGI middleware that measures the time until the response starts, by route template."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and time it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, timed)
        except Exception:
            self._metrics.count(scope, 500, time.perf_counter() - began)
            raise
