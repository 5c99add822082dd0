"""5: a job that kills every worker it meets ends as a dead letter, and costs no other job its end."""

from tests.chaos.load import Load, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sabotage import POISON
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World

_ATTEMPTS = 3


def plan(size: Size) -> Plan:
    """Many workers: one that dies again and again is started again after growing pauses."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
        has_poison=True,
    )


def prove(world: World, size: Size) -> Outcome:
    """Poison spread evenly among good jobs, all posted as fast as they are taken."""
    every = size.jobs // size.poison

    def is_poison(number: int) -> bool:
        return number % every == every // 2 and number // every < size.poison

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        text = text_for(label, number)
        return {"input": f"{POISON} {text}" if is_poison(number) else text, "label": label}

    with Load(world, body, count=size.jobs) as load:
        load.join(size.patience_seconds / 10)
    poison = [job_id for number, job_id in load.accepted.items() if is_poison(number)]
    good = [job_id for number, job_id in load.accepted.items() if not is_poison(number)]
    found = outcomes(world, good, size.patience_seconds)
    left = world.wait_ended(poison, size.patience_seconds / 5)
    dead = [job for job in world.jobs(poison) if job and (job["error"] or {}).get("code") == "attempts_exhausted"]
    at_third = sum(job["attempt"] == _ATTEMPTS for job in dead)
    outcome = Outcome({"poison_jobs": len(poison), "good_jobs": len(good), "workers_crashed": _crashes(world)})
    outcome.at_least("good_jobs_done", found["succeeded"], len(good), spread=spread(found))
    outcome.at_least(
        "poison_jobs_dead_at_attempt_3", at_third, size.poison, spread=f"{len(dead)} dead, {len(left)} left"
    )
    outcome.at_least("poison_jobs", len(poison), size.poison)
    return outcome


def _crashes(world: World) -> int:
    return sum(worker.restarts for worker in world.workers)


PROMISE = Promise(5, "A poison job cannot stop a group", plan, prove)
