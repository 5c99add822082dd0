"""HTTP probes of a Celery service: `/metrics`, `/livez` (not stuck), `/readyz` (present in the ledger, and of use)."""

from collections.abc import Callable, Iterable, Mapping
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
    """The result of a probe, with one line of text for each dependency."""

    ok: bool
    text: str


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Discard the server's access log: services log JSON lines, and probes are frequent."""


def serve(settings: Settings, leases: LeaseKeeper, misfit: Callable[[], str]) -> None:
    """Serve the probes at `metrics_host` and `metrics_port` until the process ends; port 0 serves none.

    `misfit` says why the process is not ready although it is present; it returns an empty text where nothing is wrong.
    """
    probes = {"/livez": lambda: liveness(leases), "/readyz": lambda: readiness(leases, settings.broker_url, misfit())}
    serve_probes(settings, probes)


def serve_probes(settings: Settings, probes: Mapping[str, Callable[[], Answer]]) -> None:
    """Serve metrics and probes at `metrics_host` and `metrics_port` until the process ends; port 0 serves none."""
    if not settings.metrics_port:
        return
    server = make_server(
        settings.metrics_host,
        settings.metrics_port,
        probe_app(probes),
        ThreadingWSGIServer,
        handler_class=_Quiet,
    )
    Thread(target=server.serve_forever, name="probes", daemon=True).start()


def liveness(leases: LeaseKeeper) -> Answer:
    """Check that the process is not stuck; a missing ledger is no reason to restart it."""
    return Answer(leases.is_turning, f"lease thread: {'turns' if leases.is_turning else 'got no turn for long'}\n")


def readiness(leases: LeaseKeeper, broker_url: str, misfit: str = "") -> Answer:
    """Check that the process is present in the ledger and no misfit.

    A missing broker is only reported, since jobs are sent again.
    """
    is_present = leases.is_present
    ledger = "has noted this process" if is_present else "has not noted this process lately, or it is leaving"
    lines = [f"ledger: {ledger}", f"broker: {_broker(broker_url)}", *([f"base model: {misfit}"] if misfit else [])]
    return Answer(is_present and not misfit, "".join(f"{line}\n" for line in lines))


def _broker(url: str) -> str:
    try:
        with redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        ) as client:
            client.ping()
    except redis.RedisError:
        return "does not answer"
    return "answers"


def probe_app(probes: Mapping[str, Callable[[], Answer]]) -> "WSGIApplication":
    """Return an application that serves the metrics and a path for each probe: 200 if it passes, else 503."""
    metrics: WSGIApplication = make_wsgi_app()

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        probe = probes.get(environ["PATH_INFO"])
        if probe is None:
            return metrics(environ, start_response)
        answer = probe()
        start_response("200 OK" if answer.ok else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [answer.text.encode()]

    return app
