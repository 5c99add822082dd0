"""7: a rolling restart and a scale-in under load fail no job and run none again."""

import signal

from tests.chaos.histories import runs_of
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until

_STOP_SECONDS = 60.0


def plan(size: Size) -> Plan:
    """Jobs of about a second, far below the grace period."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
    )


def prove(world: World, size: Size) -> Outcome:
    """Every worker and selector restarted one by one, then all workers but one stopped and started again."""

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        params = {"max_new_tokens": 2 * size.words}
        named = {"label": label} if number % 2 else {}
        return {"input": text_for(label, number, size.words), "params": params, **named}

    counts = {"restarts": 0, "scale_ins": 0, "scale_outs": 0}
    with Load(world, body, per_second=size.jobs_per_second) as load:
        for _ in range(size.rounds):
            counts["restarts"] += _roll(world)
            stopped = _scale_in(world)
            counts["scale_ins"] += len(stopped)
            counts["scale_outs"] += _scale_out(world, stopped)
    found = outcomes(world, load.ids, size.patience_seconds)
    again = {job_id for job_id in load.ids if runs_of(world.events(job_id)) > 1 or _selections(world, job_id) > 1}
    outcome = Outcome(counts | {"jobs": len(load.ids)})
    outcome.at_least("processes_stopped", counts["restarts"] + counts["scale_ins"], 2 * size.rounds * size.workers)
    outcome.at_most("jobs_failed_by_stopping", lost(found), 0, spread=spread(found))
    outcome.at_most("jobs_run_again_by_stopping", len(again), 0)
    return outcome


def _roll(world: World) -> int:
    """Stop each worker and the selector in turn; the supervisor starts it again."""
    rolled = 0
    for child in [c for c in world.supervisor.children if c.name != "api"]:
        pid = child.process.pid
        child.end(signal.SIGTERM)
        rolled += bool(
            until(lambda child=child, pid=pid: child.process.pid != pid and world.present([child]), _STOP_SECONDS)
        )
    return rolled


def _scale_in(world: World) -> list[object]:
    """Stop all workers but the first for good; answers those that ended in time."""
    leaving = world.workers[1:]
    for child in leaving:
        world.supervisor.children.remove(child)  # nobody starts it again
        child.end(signal.SIGTERM)
    return [child for child in leaving if until(lambda child=child: not child.is_alive, _STOP_SECONDS)]


def _scale_out(world: World, stopped: list[object]) -> int:
    for child in stopped:
        child.start()
        world.supervisor.children.append(child)
    until(lambda: len(world.present(stopped)) == len(stopped), _STOP_SECONDS)
    return len(world.present(stopped))


def _selections(world: World, job_id: str) -> int:
    return sum(event.state == "selecting" for event in world.events(job_id))


PROMISE = Promise(7, "Rolling restart and scale-in are lossless", plan, prove)
