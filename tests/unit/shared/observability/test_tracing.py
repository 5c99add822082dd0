"""Tracing is off, and costs nothing, unless OpenTelemetry's own variables ask for it."""

import subprocess
import sys

import pytest

from shared.observability import tracing
from shared.observability.tracing import _exporters_asked_for, configure_tracing


@pytest.fixture
def environment(monkeypatch):
    for name in ("SDK_DISABLED", "TRACES_EXPORTER", "EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)
    yield monkeypatch
    tracing.trace_with(None)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
    ],
)
def test_the_standard_variables_ask_for_exporters(given, asked):
    assert _exporters_asked_for(given) == asked


def test_without_them_nothing_is_traced(environment):
    configure_tracing("api")
    assert not tracing.is_on()
    assert tracing.carrier() == {}
    with tracing.span("engine"):
        tracing.note(tokens=1)
        tracing.event("first token")


def test_an_exporter_that_is_not_installed_is_named_and_the_process_goes_on(environment, capsys):
    environment.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    configure_tracing("api")
    assert not tracing.is_on()
    said = capsys.readouterr()
    assert "no trace exporter zipkin is installed" in said.out + said.err
    assert "pip install '.[tracing]'" in said.out + said.err


def test_with_an_exporter_it_is_on(environment):
    environment.setenv("OTEL_TRACES_EXPORTER", "console")
    configure_tracing("api")
    assert tracing.is_on()


@pytest.mark.parametrize("module", ["services.api.__main__", "shared.worker.service"])
def test_while_it_is_off_the_library_is_not_even_imported(module):
    script = (
        f"import sys, {module}; from shared.observability import tracing; "
        "tracing.configure_tracing('x'); tracing.carrier();"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk.trace')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
