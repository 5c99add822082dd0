"""What an orchestrator asks a Celery service over HTTP: `/metrics`, `/livez` (stuck?), `/readyz` (at work?)."""

from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, make_server

import redis
from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from shared.settings import Settings
from shared.worker.leases import LeaseKeeper

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_TIMEOUT_SECONDS = 1.0


class Answer(NamedTuple):
    """Yes or no, and each part that it hangs on in a line of its own."""

    ok: bool
    text: str


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Services log JSON lines, and not every question of a probe."""


def serve(settings: Settings, leases: LeaseKeeper) -> None:
    """Answer at `metrics_host` and `metrics_port` until the process ends; port 0 answers nobody."""
    if not settings.metrics_port:
        return
    server = make_server(
        settings.metrics_host,
        settings.metrics_port,
        probe_app({"/livez": lambda: liveness(leases), "/readyz": lambda: readiness(leases, settings.broker_url)}),
        ThreadingWSGIServer,
        handler_class=_Quiet,
    )
    Thread(target=server.serve_forever, name="probes", daemon=True).start()


def liveness(leases: LeaseKeeper) -> Answer:
    """Whether the process is stuck; a ledger that is away is no reason to start it again."""
    return Answer(leases.is_turning, f"lease thread: {'turns' if leases.is_turning else 'got no turn for long'}\n")


def readiness(leases: LeaseKeeper, broker_url: str) -> Answer:
    """Whether the process is at work: present in the ledger; a broker that is away is named, its jobs come again."""
    is_present = leases.is_present
    ledger = "has noted this process" if is_present else "has not noted this process lately, or it is leaving"
    return Answer(is_present, f"ledger: {ledger}\nbroker: {_broker(broker_url)}\n")


def _broker(url: str) -> str:
    try:
        with redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        ) as client:
            client.ping()
    except redis.RedisError:
        return "does not answer"
    return "answers"


def probe_app(questions: dict[str, Callable[[], Answer]]) -> "WSGIApplication":
    """The metrics, and a path for each question: 200 where the answer is yes, else 503."""
    metrics: WSGIApplication = make_wsgi_app()

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        question = questions.get(environ["PATH_INFO"])
        if question is None:
            return metrics(environ, start_response)
        answer = question()
        start_response("200 OK" if answer.ok else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [answer.text.encode()]

    return app
