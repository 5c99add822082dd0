"""What an orchestrator asks a Celery service over HTTP: `/metrics`, `/livez` (stuck?), `/readyz` (at work?)."""

from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from shared.attempts import LeaseKeeper
from shared.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


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
        probe_app({"/livez": lambda: leases.is_turning, "/readyz": lambda: leases.is_present}),
        ThreadingWSGIServer,
        handler_class=_Quiet,
    )
    Thread(target=server.serve_forever, name="probes", daemon=True).start()


def probe_app(questions: dict[str, Callable[[], bool]]) -> "WSGIApplication":
    """The metrics, and a path for each question: 200 where the answer is yes, else 503."""
    metrics: WSGIApplication = make_wsgi_app()

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        question = questions.get(environ["PATH_INFO"])
        if question is None:
            return metrics(environ, start_response)
        status, text = ("200 OK", b"yes\n") if question() else ("503 Service Unavailable", b"no\n")
        start_response(status, [("Content-Type", "text/plain")])
        return [text]

    return app
