"""22: whatever becomes of an engine, its jobs go back, others take them, and none is lost or failed."""

from shared.ledger.keys import LedgerKey
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until

KINDS = ("away", "memory", "hang", "lost")
"""What an engine suffers from (`SIGNALBOX_ECHO_FAULT_FILE`); of the last one its process does not recover."""
_SEEN_SECONDS = 30.0
_HANG_SECONDS = 1.0


def plan(size: Size) -> Plan:
    """Workers on the echo engine; all serve all groups."""
    return Plan(workers=("bank,travel,base",) * size.workers, lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """Engines die one after the other, in every way, while jobs come in."""

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        params = {"max_new_tokens": 2 * size.words}
        return {"input": text_for(label, number, size.words), "label": label, "params": params}

    deaths = dict.fromkeys(KINDS, 0)
    with Load(world, body, per_second=size.jobs_per_second) as load:
        for _ in range(size.deaths):
            for kind in KINDS:
                deaths[kind] += _die(world, kind)
    found = outcomes(world, load.ids, size.patience_seconds)
    blamed = [job_id for job_id in load.ids if int(world.redis.hget(LedgerKey.JOB.of(job_id), "lost_leases") or 0)]
    outcome = Outcome({f"engines_{kind}": count for kind, count in deaths.items()} | {"jobs": len(load.ids)})
    outcome.at_least("engine_deaths", sum(deaths.values()), len(KINDS) * size.deaths)
    outcome.at_most("engine_death_lost", lost(found), 0, spread=spread(found))
    outcome.at_most("engine_death_failed", found["failed"], 0)
    outcome.at_most("engine_death_leases_counted", len(blamed), 0)
    return outcome


def _die(world: World, kind: str) -> bool:
    """Let the engine of a busy worker suffer until that is seen; answers whether it was."""
    worker = until(lambda: next(filter(world.held_by, world.present(world.workers)), None), _SEEN_SECONDS)
    if worker is None:
        return False
    pid, given_back, fault = worker.process.pid, world.log_lines("job_given_back"), world.fault_file(worker)
    fault.write_text(kind)
    if kind == "hang":
        is_seen = world.wait_ended(world.held_by(worker), _HANG_SECONDS)
    elif kind == "lost":
        is_seen = until(lambda: worker.process.pid != pid, _SEEN_SECONDS)
    else:
        is_seen = until(lambda: world.log_lines("job_given_back") > given_back, _SEEN_SECONDS)
    fault.unlink()
    return bool(is_seen and until(lambda: world.present([worker]), _SEEN_SECONDS))


PROMISE = Promise(22, "The death of an engine loses and fails nothing", plan, prove)
