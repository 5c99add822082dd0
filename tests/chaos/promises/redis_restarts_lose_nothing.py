"""4: what a Redis acknowledged survives its restart, and every group serves again by itself."""

import itertools
import signal
import time

import httpx

from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until

_NAMES = (("ledger",), ("broker",), ("ledger", "broker"))


def plan(size: Size) -> Plan:
    """All workers serve all groups."""
    return Plan(lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """End ledger, broker, or both, by SIGKILL and SIGTERM in turn, while jobs come in."""

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        return {"input": text_for(label, number), **({"label": label} if number % 2 else {})}

    recoveries: list[float] = []
    ways = list(itertools.product(_NAMES, (signal.SIGKILL, signal.SIGTERM)))
    with Load(world, body, per_second=10) as load:
        for names, sig in itertools.islice(itertools.cycle(ways), size.restarts):
            began = time.monotonic()
            before = {name: world.server(name).process.pid for name in names}
            for name in names:
                world.kill_server(name, sig)
            until(lambda before=before: _are_new(world, before), size.goal_seconds)
            recoveries.append(_seconds_until_all_serve(world, began, size.goal_seconds))
    found = outcomes(world, load.ids, size.patience_seconds)
    in_time = sum(seconds < size.goal_seconds for seconds in recoveries)
    outcome = Outcome({"restarts": len(recoveries), "jobs": len(load.ids)})
    outcome.at_most("jobs_lost_by_restarts", lost(found), 0, spread=spread(found))
    outcome.at_least("restarts_after_which_all_groups_serve", in_time, size.restarts)
    worst = max(recoveries)
    outcome.at_most(
        "all_groups_serve_again_max_s", worst, size.goal_seconds, unit="s", spread=f"min {min(recoveries):.1f}"
    )
    return outcome


def _are_new(world: World, before: dict[str, int]) -> bool:
    return all(world.server(name).is_alive and world.server(name).process.pid != pid for name, pid in before.items())


def _seconds_until_all_serve(world: World, began: float, limit_seconds: float) -> float:
    """Until a job that is sent now to each group, and one through the selector, are all done."""
    headers = {"Authorization": f"Bearer {world.key}"}
    asks = [{"input": text_for(label, 0), "label": label} for label in LABELS] + [{"input": text_for(LABELS[0], 0)}]
    with httpx.Client(base_url=world.supervisor.api_url, headers=headers, timeout=10) as http:

        def accepted(ask: dict[str, object]) -> str:
            try:
                answer = http.post("/v1/jobs", json=ask)
            except httpx.TransportError:
                return ""
            return answer.json()["id"] if answer.status_code == 202 else ""

        job_ids = [until(lambda ask=ask: accepted(ask), limit_seconds) for ask in asks]
    if not all(job_ids) or world.wait_ended(job_ids, limit_seconds):
        return float("inf")
    return time.monotonic() - began


PROMISE = Promise(4, "Redis restart: nothing acknowledged is lost, workers come back by themselves", plan, prove)
