"""The spans of this process, in memory."""

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.observability import tracing

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A caller's `traceparent`."""
CALLERS_TRACE = 0x0AF7651916CD43DD8448EB211C80319C


class Spans:
    """What was recorded, by name."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        provider = tracing.new_provider("test")
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracing.trace_with(provider)

    def all(self):
        return self._exporter.get_finished_spans()

    def names(self):
        return [span.name for span in self.all()]

    def named(self, name):
        return [span for span in self.all() if span.name == name]

    def one(self, name):
        (span,) = self.named(name)
        return span


def is_below(span, parent):
    return span.parent is not None and span.parent.span_id == parent.context.span_id
