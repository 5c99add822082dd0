"""17: interactive jobs never wait behind batch jobs, nor a label's jobs behind another's backlog."""

from tests.chaos.faults import kill_a_busy_worker
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import Plan, World, until

_BACKLOG, _OTHER = "bank.cards", "bank.accounts"
"""Two labels of one group."""
_MOST_OVERTAKING = 2
"""One job takes its turn, and one may have been taken while the ledger wrote the arrival."""


def plan(size: Size) -> Plan:
    """Workers of one group for all."""
    return Plan(lease_seconds=size.lease_seconds, max_lost_leases=size.max_lost_leases)


def prove(world: World, size: Size) -> Outcome:
    """A trickle beside a backlog that keeps every worker busy, with workers killed: of batch jobs, of another label."""
    outcome = Outcome({"workers_killed": 0, "backlog": 2 * size.backlog, "trickle": 2 * size.trickle})
    for key, priority, label in (("batch", "batch", _BACKLOG), ("label", "interactive", _OTHER)):
        with Load(world, lambda n, p=priority: job(_BACKLOG, n, size, p), count=size.backlog) as load:
            load.join(size.patience_seconds)
        trickle = []
        for number in range(size.trickle):
            trickle.append(one_more(world, label, number, size))
            outcome.injected["workers_killed"] += number < size.kills and bool(kill_a_busy_worker(world))
        found = outcomes(world, load.ids + trickle, size.patience_seconds)
        overtaking = [started_before(world, job_id, load.ids) for job_id in trickle]
        outcome.at_most(
            f"overtaken_by_{key}_backlog", max(overtaking), _MOST_OVERTAKING, spread=str(sorted(overtaking))
        )
        outcome.at_most(f"jobs_lost_beside_{key}_backlog", lost(found), 0, spread=spread(found))
        outcome.at_least(f"{key}_backlog_left", left_behind(world, trickle[-1], load.ids), 1)
    outcome.at_least("workers_killed", outcome.injected["workers_killed"], 2 * size.kills)
    return outcome


def job(label: str, number: int, size: Size, priority: str = "interactive") -> dict[str, object]:
    """A job as long as every other."""
    text = text_for(label, number, size.words)
    return {"input": text, "label": label, "priority": priority, "params": {"max_new_tokens": 2 * size.words}}


def one_more(world: World, label: str, number: int, size: Size) -> str:
    """Post an interactive job and wait until a worker has it; answers its id."""
    job_id = str(world.client.post("/v1/jobs", job(label, 10_000 + number, size))["id"])
    until(lambda: world.states([job_id])[job_id] != "routed", size.patience_seconds)
    return job_id


def started_at(world: World, job_id: str) -> int:
    """When the job's first attempt began, by the ledger's clock."""
    return min((event.at_ms for event in world.events(job_id) if event.state == "running"), default=0)


def started_before(world: World, job_id: str, backlog: list[str]) -> int:
    """How many jobs of the backlog began between this job's arrival and its own beginning."""
    came, began = world.events(job_id)[0].at_ms, started_at(world, job_id)
    return sum(came < started_at(world, other) < began for other in backlog)


def left_behind(world: World, job_id: str, backlog: list[str]) -> int:
    """How many jobs of the backlog began after this one: with none, nothing was proved."""
    began = started_at(world, job_id)
    return sum(started_at(world, other) > began for other in backlog)


PROMISE = Promise(17, "Nobody waits for another's backlog", plan, prove)
