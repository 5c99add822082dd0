"""Traces by OpenTelemetry; without its environment variables they are off, and the library is not imported.

Each job has one trace. Its root is the request that creates the job, or the parent that the request's `traceparent`
names; the ledger stores the trace context with the job. Each delivery to a worker is a span `receive <queue>`, which
lasts as long as the job waited, with a child `process <queue>` for the work. A later attempt in the same queue links to
the first delivery, whose process may have died before it could export its own spans.
"""

import contextlib
import contextvars
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

import structlog

from shared.contracts.jobs import Job

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanContext, Tracer

log = structlog.get_logger()
Attribute = str | bool | int | float
Carrier = Mapping[str, str]
"""`traceparent` and, where there is one, `tracestate` (W3C trace context)."""

MAX_TRACESTATE = 512
_OURS = "signalbox"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None
_next_span_id: contextvars.ContextVar[int] = contextvars.ContextVar("next_span_id", default=0)


def configure_tracing(service: str) -> None:
    """Trace this process if the environment requests it; without the requested exporter, log that and continue."""
    names = _exporters_asked_for(os.environ)
    if not names:
        return
    try:
        exporters = [_exporter(name) for name in names]
    except (ImportError, LookupError) as error:  # a missing exporter must not stop the service
        log.error(
            "tracing_off", error=str(error), mend="in a clone, pip install '.[tracing]'; or OTEL_TRACES_EXPORTER=none"
        )
        return
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = new_provider(service)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace_with(provider)


def _exporters_asked_for(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the requested exporters, as in the OpenTelemetry specification; empty without a request."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else ""
    names = (environment.get("OTEL_TRACES_EXPORTER") or default).split(",")
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "http/protobuf")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    return [otlp if name == "otlp" else name for name in map(str.strip, names) if name not in ("", "none")]


def _exporter(name: str) -> "SpanExporter":
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise LookupError(f"no trace exporter {name} is installed")
    exporter: SpanExporter = found[0].load()()
    return exporter


def new_provider(service: str) -> "TracerProvider":
    """Return a tracer provider whose span ids can be set; `OTEL_*` variables may change its name and attributes."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            return _next_span_id.get() or super().generate_span_id()

    name = os.environ.get("OTEL_SERVICE_NAME") or f"signalbox-{service.replace('_', '-')}"
    return TracerProvider(resource=Resource.create({"service.name": name}), id_generator=Ids())


def trace_with(source: "TracerProvider | None") -> None:
    """Trace this process with this provider from now on; None ends the tracing."""
    global _provider, _tracer
    _provider, _tracer = source, source.get_tracer(_OURS) if source else None


def is_on() -> bool:
    """Whether this process is traced."""
    return _tracer is not None


def provider() -> "TracerProvider | None":
    """Return this process's tracer provider, for libraries that create spans themselves."""
    return _provider


@contextlib.contextmanager
def span(name: str, **attributes: Attribute) -> Iterator[None]:
    """Record a child of the current span; does nothing without a current span."""
    if _tracer is None or not _is_recording():
        yield
        return
    with _tracer.start_as_current_span(name, attributes=_named(attributes)):
        yield


def note(**attributes: Attribute) -> None:
    """Add attributes to the current span."""
    if _tracer is not None:
        _current().set_attributes(_named(attributes))


def event(name: str, *, seconds_ago: float = 0.0, **attributes: Attribute) -> None:
    """Add an event to the current span."""
    if _tracer is not None:
        _current().add_event(name, _named(attributes), time.time_ns() - round(seconds_ago * 1e9))


def carrier() -> dict[str, str]:
    """Return the context by which a job continues the current trace; empty without tracing."""
    found: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(found)
    # Callers write it and every job stores it: W3C guarantees no more than this length.
    if len(found.get("tracestate", "")) > MAX_TRACESTATE:
        del found["tracestate"]
    return found


@contextlib.contextmanager
def attempt(job: Job) -> Iterator[None]:
    """Record the spans of one delivery of a job and of its work; does nothing for a job without a trace."""
    if _tracer is None or not job.trace:
        yield
        return
    from opentelemetry.trace import Link, SpanKind, set_span_in_context

    delivery = _receive(_tracer, job)
    is_again = job.attempt > job.first_attempt
    first = _Delivery(job.id, job.first_attempt).context(delivery.get_span_context())
    attributes = _job_attributes(job)
    with _tracer.start_as_current_span(
        f"process {job.queue}",
        set_span_in_context(delivery),
        SpanKind.CONSUMER,
        {**attributes, "messaging.operation.type": "process"},
        links=[Link(first)] if is_again else [],
    ):
        yield


class _Delivery(NamedTuple):
    """One attempt's message; its span id is derived from it, so that a later attempt can link to the span."""

    job_id: str
    attempt: int

    @property
    def span_id(self) -> int:
        digest = hashlib.sha256(f"{self.job_id}/{self.attempt}".encode()).digest()
        return int.from_bytes(digest[:8]) or 1  # 0 is no id

    def context(self, like: "SpanContext") -> "SpanContext":
        """Return the span's context, in the trace of `like`."""
        from opentelemetry.trace import SpanContext

        return SpanContext(like.trace_id, self.span_id, is_remote=True, trace_flags=like.trace_flags)


def _receive(tracer: "Tracer", job: Job) -> "Span":
    """Record the time that the job waited in its queue, by the ledger's clock."""
    from opentelemetry.trace import SpanKind

    taken_ms = job.timestamps[job.state]
    token = _next_span_id.set(_Delivery(job.id, job.attempt).span_id)
    try:
        found = tracer.start_span(
            f"receive {job.queue}",
            _context(job.trace),
            SpanKind.CONSUMER,
            {**_job_attributes(job), "messaging.operation.type": "receive"},
            start_time=round(job.waiting_since_ms * 1e6),
        )
    finally:
        _next_span_id.reset(token)
    found.end(round(taken_ms * 1e6))
    return found


def _job_attributes(job: Job) -> dict[str, Attribute]:
    found = {
        "messaging.system": "redis",
        "messaging.destination.name": job.queue,
        **_named({"job": job.id, "kind": job.kind, "attempt": job.attempt, "release": job.release, "label": job.label}),
    }
    return {name: value for name, value in found.items() if value != ""}


def _named(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"{_OURS}.{name}": value for name, value in attributes.items()}


def _context(headers: Carrier) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers, Context())


def _current() -> "Span":
    from opentelemetry.trace import get_current_span

    return get_current_span()


def _is_recording() -> bool:
    return _current().get_span_context().is_valid
