"""19: half requests and headers that never end take nothing from others; they are ended, and leave nothing behind."""

import statistics
import time

import httpx
import psutil

from tests.chaos.load import lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.promises.overload_is_refused import Memory
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until
from tests.support.slow_connections import slow_connections

_GROWTH_MIB = 100.0
_HEADER_SECONDS = 2.0
_WORDS = 2


def plan(size: Size) -> Plan:
    """Half requests end soon, so that all are ended more than once."""
    return Plan(lease_seconds=size.lease_seconds, settings=(("header_seconds", _HEADER_SECONDS),))


def prove(world: World, size: Size) -> Outcome:
    """Submit jobs and look at the API's health while the attack goes on, then look at what is left of it."""
    port = world.settings.api_port
    with Memory(world) as memory, slow_connections(port, size.half_requests) as ended:
        healthz_ms, accepted, refused = _use(world, size.seconds)
        growth_mib = memory.restart()
    left = until(lambda: not _connections(world), size.patience_seconds)
    found = outcomes(world, accepted, size.patience_seconds)
    outcome = Outcome({"half_requests": size.half_requests, **ended})
    outcome.at_most("slow_healthz_p95_ms", statistics.quantiles(healthz_ms, n=20)[-1], size.goal_ms, unit="ms")
    outcome.at_most("slow_posts_refused", refused, 0, spread=f"{len(accepted)} accepted")
    outcome.at_most("slow_accepted_jobs_lost", lost(found), 0, spread=spread(found))
    outcome.at_least("half_requests_ended", ended["half_requests"], size.half_requests)
    outcome.at_least("endless_headers_ended", ended["endless_headers"], 1)
    outcome.at_most("connections_left", 0 if left else _connections(world), 0)
    outcome.at_most("slow_api_growth_mib", growth_mib, _GROWTH_MIB, unit="MiB")
    return outcome


def _use(world: World, seconds: float) -> tuple[list[float], list[str], int]:
    """Ask for health and submit a job, each on a connection of its own; answers times, accepted jobs, refusals."""
    healthz_ms: list[float] = []
    accepted: list[str] = []
    refused = 0
    headers = {"Authorization": f"Bearer {world.key}"}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with httpx.Client(base_url=world.supervisor.api_url, headers=headers, timeout=30) as http:
            began = time.perf_counter()
            http.get("/healthz").raise_for_status()
            healthz_ms.append((time.perf_counter() - began) * 1000)
            label = LABELS[len(accepted) % len(LABELS)]
            answer = http.post("/v1/jobs", json={"input": text_for(label, len(accepted), _WORDS), "label": label})
        if answer.status_code == 202:
            accepted.append(answer.json()["id"])
        else:
            refused += 1
    return healthz_ms, accepted, refused


def _connections(world: World) -> int:
    """Connections to the API that are open."""
    api, port = psutil.Process(world.child("api").process.pid), world.settings.api_port
    return sum(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in api.net_connections("tcp"))


PROMISE = Promise(19, "Slow and endless connections starve nobody", plan, prove)
