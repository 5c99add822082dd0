"""3: a killed worker's job is running again soon, by the ledger's own clock."""

import time

from tests.chaos.faults import Faults, kill_a_busy_worker
from tests.chaos.load import Load, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, SECONDS_PER_WORD, Plan, World

_JOBS_PER_WORKER = 2
_GOAL_P99_SECONDS, _GOAL_MAX_SECONDS = 30.0, 45.0


def plan(size: Size) -> Plan:
    """The default lease in the long form; room enough that no job waits for anything but the death to be noticed."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
        max_lost_leases=size.max_lost_leases,
    )


def prove(world: World, size: Size) -> Outcome:
    """Kill busy workers, and read from the streams of the jobs they held when each ran again."""

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        params = {"max_new_tokens": 2 * size.words}
        return {"input": text_for(label, number, size.words), "label": label, "params": params}

    killed: list[tuple[str, float]] = []

    def kill() -> bool:
        hit = kill_a_busy_worker(world)
        if hit:
            killed.extend((job_id, time.time() * 1000) for job_id in hit[1])  # the ledger's clock is this machine's
        return hit is not None

    per_second = size.workers * _JOBS_PER_WORKER / (size.words * SECONDS_PER_WORD)
    with (
        Load(world, body, per_second=per_second) as load,
        Faults({"kills": kill}, {"kills": size.kills}, size.seconds * 0.8, world.random) as faults,
    ):
        faults.join(size.seconds)
    found = outcomes(world, load.ids, size.patience_seconds)
    waits = [
        (wait, job_id) for job_id, at_ms in killed if (wait := _seconds_until_again(world, job_id, at_ms)) is not None
    ]
    seconds = sorted(wait for wait, _ in waits)
    outcome = Outcome({"worker_kills": faults.injected["kills"], "jobs_killed": len(killed)})
    outcome.at_least("kills_of_busy_workers", faults.injected["kills"], size.kills)
    p99 = seconds[int(0.99 * (len(seconds) - 1))] if seconds else float("inf")
    middle = seconds[len(seconds) // 2] if seconds else float("inf")
    told = f"p50 {middle:.1f}, n={len(seconds)}, lease {size.lease_seconds:g} s"
    outcome.at_most("killed_job_runs_again_p99_s", p99, _GOAL_P99_SECONDS, unit="s", spread=told)
    outcome.at_most("killed_job_runs_again_max_s", max(seconds, default=float("inf")), _GOAL_MAX_SECONDS, unit="s")
    outcome.at_most("killed_jobs_not_done", sum(found.values()) - found["succeeded"], 0, spread=spread(found))
    return outcome


def _seconds_until_again(world: World, job_id: str, killed_ms: float) -> float | None:
    """Seconds from the kill to the next attempt; None where the job had ended by then."""
    after = [event for event in world.events(job_id) if event.at_ms >= killed_ms]
    # What the dead process wrote last may have come a moment after the kill was noted.
    if not any(event.state == "routed" for event in after):
        return None if after or world.states([job_id])[job_id] == "succeeded" else float("inf")
    again = next((event for event in after if event.state == "running"), None)
    return (again.at_ms - killed_ms) / 1000 if again else float("inf")


PROMISE = Promise(3, "A killed worker's job runs again soon", plan, prove)
