"""24: every end of a job reaches an endpoint at least once, whoever dies, and however often its receiver fails."""

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from tests.chaos.faults import Faults, kill_a_worker, kill_the_api
from tests.chaos.load import Load
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.promises.accepted_is_never_lost import body
from tests.chaos.promises.webhooks_stay_outside import Listener
from tests.chaos.sizes import Size
from tests.chaos.world import FINAL, Plan, World, until

_HOST = "127.0.0.7"
_RECEIVER_SECONDS = 4.0
_FIRST_TRIES = ("ok", "error", "redirect", "silence", "reset")


def plan(size: Size) -> Plan:
    """Workers on the echo engine; the receiver is the one host inside that is called."""
    settings = (("webhook_inner_hosts", _HOST), ("webhook_seconds", _RECEIVER_SECONDS))
    return Plan(lease_seconds=size.lease_seconds, max_lost_leases=size.max_lost_leases, settings=settings)


class Receiver:
    """A server that does something else to each delivery's first try, and takes the second one."""

    def __init__(self, inside: str) -> None:
        self.secret = ""
        self.tries: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.forged = 0
        self._inside = inside
        self._server = ThreadingHTTPServer((_HOST, 0), self._handler())
        self.url = f"http://{_HOST}:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(self, sent)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def take(self, request: BaseHTTPRequestHandler, sent: bytes) -> None:
        """Verify what came, and answer as it is this delivery's turn."""
        try:
            event = Webhook(self.secret).verify(sent, dict(request.headers))
        except Exception:  # noqa: BLE001 - whatever it is, it is no delivery of ours
            self.forged += 1
            return
        first = self.tries[event["id"]] == 0
        self.tries[event["id"]] += 1
        act = _FIRST_TRIES[len(self.tries) % len(_FIRST_TRIES)] if first else "ok"
        self.did[act] += 1
        if act == "silence":
            threading.Event().wait(2 * _RECEIVER_SECONDS)
        elif act == "reset":
            request.connection.close()
        else:
            request.send_response({"ok": 204, "error": 500, "redirect": 307}[act])
            request.send_header("Location", self._inside)
            request.send_header("Content-Length", "0")
            request.end_headers()
        if act == "ok":
            self.taken[event["data"]["id"]] += 1


def prove(world: World, size: Size) -> Outcome:
    """Jobs come in while whatever takes part is killed; then each end has to have been told."""
    listener = Listener()
    receiver = Receiver(f"http://127.0.0.1:{listener.port}/")
    endpoint = world.client.create_webhook(receiver.url, ["job.*"])
    receiver.secret = endpoint.signing_secret
    acts = {
        "worker_kills": lambda: kill_a_worker(world),
        "api_kills": lambda: kill_the_api(world),
        "ledger_kills": lambda: world.kill_server("ledger"),
        "deliverer_kills": lambda: world.kill(world.child("api-worker")),
    }
    counts = {
        "worker_kills": size.worker_kills,
        "api_kills": size.api_kills,
        "ledger_kills": size.redis_kills,
        "deliverer_kills": size.deliverer_kills,
    }
    with (
        Load(world, body, count=size.jobs, per_second=size.jobs / size.seconds) as load,
        Faults(acts, counts, 0.8 * size.seconds, world.random) as faults,
    ):
        load.join(size.seconds + size.patience_seconds / 2)
        faults.join(size.patience_seconds / 2)
    world.wait_ended(load.ids, size.patience_seconds)
    ended = [job_id for job_id, state in world.states(load.ids).items() if state in FINAL]
    began = time.monotonic()
    until(lambda: not set(ended) - set(receiver.taken), size.patience_seconds)
    seconds = time.monotonic() - began
    states = Counter(one.state for one in world.client.webhook_deliveries(endpoint.id, limit=200))
    receiver.close()
    listener.close()
    said = f"{dict(states)}, {seconds:.0f} s after the last"
    return _told(size, receiver, listener, ended, dict(faults.injected), said)


def _told(
    size: Size, receiver: Receiver, listener: Listener, ended: list[str], injected: dict[str, int], said: str
) -> Outcome:
    again = sum(count - 1 for count in receiver.taken.values())
    outcome = Outcome({**injected, **{f"first_tries_{act}": n for act, n in receiver.did.items() if act != "ok"}})
    outcome.at_least("webhook_jobs_ended", len(ended), size.jobs)
    lost = set(ended) - set(receiver.taken)
    outcome.at_most("webhook_ends_not_told", len(lost), 0, spread=f"{again} told again, {said}")
    outcome.at_most("webhook_forged", receiver.forged, 0)
    outcome.at_most("webhook_connections_inside", listener.count, 0)
    outcome.at_least("webhook_faults_injected", sum(injected.values()), size.faults)
    return outcome


PROMISE = Promise(24, "A webhook is told at least once", plan, prove)
