"""Traces of real processes, as an OTLP collector receives them: one trace a job, also over a worker that is killed."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from signalbox import Signalbox

from services.cli.demo.data import DemoData
from services.cli.local.servers import free_ports
from services.cli.local.supervisor import Supervisor
from services.cli.local.up import announce
from shared.settings import Settings
from tests.support.echo_release import publish
from tests.support.eventually import eventually
from tests.support.system import System

GROUPS = "bank,travel,base"
TRACES = ["0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"]
CALLERS_SPAN = "b7ad6b7169203331"


class Collector:
    """An OTLP receiver over HTTP: spans by trace id."""

    def __init__(self):
        self._spans = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path, request):
        assert path == "/v1/traces"
        for resource in request.resource_spans:
            (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                self._spans += [(service, span) for span in scope.spans]

    def trace(self, trace_id):
        """Name to the spans of that name; and to which service each belongs."""
        found = {}
        for service, span in list(self._spans):
            if span.trace_id.hex() == trace_id:
                found.setdefault(span.name, []).append((service, span))
        return found

    def close(self):
        self._server.shutdown()


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def traced(collector, tmp_path_factory):
    """API, light selector and two workers with the echo engine, a word a tenth of a second."""
    folder = tmp_path_factory.mktemp("traced")
    settings = Settings(
        data_dir=folder / "data",
        engine="echo",
        echo_seconds_per_token=0.1,
        api_port=free_ports(1)[0],
        heartbeat_seconds=0.5,
        lease_seconds=3.0,
        reconcile_seconds=0.5,
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        supervisor = Supervisor(settings, [GROUPS, GROUPS], trainers=0)
    try:
        supervisor.start()
        key = announce(supervisor)
        supervisor.wait_ready(150)
        publish(supervisor, folder, DemoData())
        yield System(supervisor, Signalbox(supervisor.api_url, key))
    finally:
        supervisor.stop()


def submit(system, trace_id, **body):
    headers = {"traceparent": f"00-{trace_id}-{CALLERS_SPAN}-01"}
    return system.client.post("/v1/jobs", {"input": "what is my card limit", **body}, headers=headers)["id"]


def one(spans, name):
    ((service, span),) = spans[name]
    return service, span


def test_a_routed_job_is_one_trace_over_api_selector_and_worker(traced, collector):
    job = traced.ended(submit(traced, TRACES[0]))
    assert job["state"] == "succeeded", job["error"]
    queue = job["queue"]
    names = {
        "POST /v1/jobs",
        *(f"{act} {where}" for act in ("receive", "process") for where in ("select", queue)),
        "engine",
    }
    eventually(lambda: names <= set(collector.trace(TRACES[0])), "the collector has every span")
    spans = collector.trace(TRACES[0])
    services = {name: one(spans, name)[0] for name in names}
    assert services["POST /v1/jobs"] == "signalbox-api"
    assert services["process select"] == "signalbox-selector"
    assert services["engine"] == services[f"process {queue}"] == "signalbox-adapter-worker"
    root = one(spans, "POST /v1/jobs")[1]
    assert root.parent_span_id.hex() == CALLERS_SPAN
    for where in ("select", queue):
        receive, process = (one(spans, f"{act} {where}")[1] for act in ("receive", "process"))
        assert (receive.parent_span_id, process.parent_span_id) == (root.span_id, receive.span_id)
    assert one(spans, "engine")[1].parent_span_id == one(spans, f"process {queue}")[1].span_id


def test_the_attempt_after_a_killed_worker_links_to_the_first_delivery(traced, collector):
    job_id = submit(traced, TRACES[1], input=" ".join(["card"] * 40), label="bank.cards")
    receive, process = "receive generate.bank", "process generate.bank"
    eventually(lambda: receive in collector.trace(TRACES[1]), "the first delivery is told")
    worker = eventually(lambda: traced.worker_of(job_id), "a worker holds the job")
    os.kill(worker.pid, signal.SIGKILL)
    job = traced.ended(job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    eventually(lambda: process in collector.trace(TRACES[1]), "the second attempt is told")
    spans = collector.trace(TRACES[1])
    first, again = (span for _, span in sorted(spans[receive], key=lambda found: found[1].start_time_unix_nano))
    _, done = one(spans, process)
    (link,) = done.links
    assert (link.trace_id, link.span_id) == (first.trace_id, first.span_id)
    assert done.parent_span_id == again.span_id
