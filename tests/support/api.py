"""The API served over real HTTP, in the test's own loop, against the session's real servers."""

import asyncio
import contextlib
import socket

import httpx
import uvicorn.server

from services.api.app import create_app
from services.api.http.server import create_server
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.ledger import calls
from shared.registry import watch

ADAPTERS = {"fin.sa": "a" * 64, "fin.ha": "b" * 64, "med.qa": "c" * 64}
SELECTOR = "e" * 64


def make_release(labels=tuple(ADAPTERS), parent="", selector=True, passed=True, **fields):
    entries = {
        label: ReleaseLabel(
            adapter=ADAPTERS[label],
            ref=f"{label}@1",
            group=label.partition(".")[0],
            template="chatml",
            instruction="",
        )
        for label in labels
    }
    return Release(
        tenant_id=fields.pop("tenant_id", "default"),
        parent=parent,
        base_model=fields.pop("base_model", "tiny"),
        labels=entries,
        selector=ReleaseSelector(llm=SELECTOR, labels=tuple(labels)) if selector else None,
        base_group="fin",
        verdict=Verdict(passed=passed, reasons=() if passed else ("fin.sa lost 3 points",)),
        **fields,
    )


class HastyAsyncio:
    """asyncio whose pauses are a tenth as long."""

    def __getattr__(self, name):
        return getattr(asyncio, name)

    def sleep(self, seconds):
        return asyncio.sleep(seconds / 10)


# A thousand tests end an API each: what polls for that end does so more often than in earnest.
uvicorn.server.asyncio = HastyAsyncio()
watch._STOP_SECONDS = 0.01


@contextlib.asynccontextmanager
async def serving(settings):
    """An application and its URL, on a port of its own; connections wait in the socket until it is up."""
    app = create_app(settings)
    server = app.state.server = create_server(app, settings, timeout_graceful_shutdown=1)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield app, f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def client_of(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    limits = httpx.Limits(max_connections=200)
    # Plain HTTP: the certificates that a client reads at its start take longer than most tests.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=limits, verify=False)


class Worker:
    """What a service does to a job, one step at a time."""

    def __init__(self, ledger):
        self._do = ledger.do

    def take(self, job_id, queue, lease_seconds=15.0):
        return self._do(calls.acquire(job_id, queue, "worker", lease_seconds))

    def next_of(self, queue, lease_seconds=15.0):
        return self._do(calls.acquire_next(queue, "worker", lease_seconds))

    def tell(self, job, kind, **data):
        assert self._do(calls.append([(job.id, job.attempt, kind, data)])) == ["held"]

    def end(self, job, state, **fields):
        self._do(calls.finish(job, state, **fields))

    def run(self, job_id, queue, text="positive"):
        from shared.contracts.jobs import JobState

        job = self.take(job_id, queue)
        self.tell(job, "token", text=text)
        self.end(job, JobState.SUCCEEDED, result={"text": text})

    def lose(self, job_id, queue, times):
        """Go silent over a job, `times` in a row."""
        for _ in range(times):
            self.take(job_id, queue, lease_seconds=0)
            self._do(calls.expire(queue))


def code(response, status):
    """The code of a problem, whose form is checked by the way."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["detail"]
    assert isinstance(body["retryable"], bool)
    assert body["type"].endswith(body["code"])
    return body["code"]
