"""1: whatever is killed and flushed, every job that was answered with 202 succeeds."""

from tests.chaos.faults import Faults, kill_a_worker, kill_the_api
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World


def plan(size: Size) -> Plan:
    """Workers on the echo engine; all serve all groups."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
        max_lost_leases=size.max_lost_leases,
    )


def body(number: int) -> dict[str, object]:
    """Every second job names its label, the others are routed by the selector."""
    label = LABELS[number % len(LABELS)]
    named = {"label": label} if number % 2 else {}
    return {"input": text_for(label, number), "params": {"max_new_tokens": 6}, **named}


def prove(world: World, size: Size) -> Outcome:
    """Jobs come in all the while faults are injected."""
    acts = {
        "worker_kills": lambda: kill_a_worker(world),
        "api_kills": lambda: kill_the_api(world),
        "ledger_kills": lambda: world.kill_server("ledger"),
        "broker_kills": lambda: world.kill_server("broker"),
        "broker_flushes": world.flush_broker,
    }
    counts = {
        "worker_kills": size.worker_kills,
        "api_kills": size.api_kills,
        "ledger_kills": size.redis_kills,
        "broker_kills": size.redis_kills,
        "broker_flushes": size.flushes,
    }
    with (
        Load(world, body, count=size.jobs, per_second=size.jobs / size.seconds) as load,
        Faults(acts, counts, 0.8 * size.seconds, world.random) as faults,  # the last ones have to meet jobs
    ):
        load.join(size.seconds + size.patience_seconds / 2)
        faults.join(size.patience_seconds / 2)
    found = outcomes(world, load.ids, size.patience_seconds)
    outcome = Outcome(dict(faults.injected))
    outcome.at_least("accepted_jobs", len(load.ids), size.jobs, spread=f"{len(load.refused)} refused")
    outcome.at_most("accepted_jobs_lost", lost(found), 0, spread=spread(found))
    outcome.at_least("faults_injected", sum(faults.injected.values()), sum(counts.values()))
    return outcome


PROMISE = Promise(1, "An accepted (202) job is never lost", plan, prove)
