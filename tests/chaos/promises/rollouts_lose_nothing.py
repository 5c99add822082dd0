"""25: a rollout loses no request and mixes no releases, whoever is killed meanwhile."""

import time
from typing import Any

from signalbox import SignalboxError

from tests.chaos.faults import Faults, kill_a_busy_worker, kill_the_api
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import TENANT, add_adapters, add_release, add_selector, text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.promises.releases_change_in_one_step import is_of_one
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until

_AGAIN_SECONDS = 0.3
_ENDED = ("completed", "failed", "aborted")


def plan(size: Size) -> Plan:
    """The echo engine names in its text the adapter that was used."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
        max_lost_leases=size.max_lost_leases,
    )


def prove(world: World, size: Size) -> Outcome:
    """Roll candidates out, one after the other, under load, while controller, API and workers are killed."""
    first = world.registry.releases.get(TENANT, world.registry.releases.current_id(TENANT))
    releases = {first.id: first}
    acts = {
        "controller_kills": lambda: world.kill(world.child("api-worker")),
        "api_kills": lambda: kill_the_api(world),
        "worker_kills": lambda: kill_a_busy_worker(world) is not None,
    }
    counts = {name: getattr(size, name) for name in acts}
    ends: list[str] = []

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        return {"input": text_for(label, number), **({"label": label} if number % 3 else {})}

    with (
        Load(world, body, per_second=size.jobs_per_second) as load,
        Faults(acts, counts, size.seconds, world.random) as faults,
    ):
        until_at = time.monotonic() + size.seconds
        while time.monotonic() < until_at or not ends:
            candidate = _candidate(world, releases, len(releases))
            ends.append(_rolled_out(world, candidate, size))
        faults.join(size.seconds * 2)
    found = outcomes(world, load.ids, size.patience_seconds)
    jobs = [job for job in world.jobs(load.ids) if job and job["result"]]
    mixed = [job["id"] for job in jobs if not is_of_one(job, releases[job["release"]])]
    outcome = Outcome({**faults.injected, "rollouts": len(ends), "jobs": len(jobs)})
    outcome.at_most("rollout_kill_lost", lost(found), 0, spread=spread(found))
    outcome.at_most("rollout_mixed_answers", len(mixed), 0, spread=f"{len(jobs)} answers")
    outcome.at_most("rollouts_without_an_end", ends.count(""), 0, spread=", ".join(ends))
    outcome.at_least("rollouts_completed", ends.count("completed"), 1)
    outcome.at_least("rollout_kills", sum(faults.injected.values()), sum(counts.values()))
    outcome.at_least("releases_that_answered", len({job["release"] for job in jobs}), 2)
    return outcome


def _candidate(world: World, releases: dict[str, Any], number: int) -> Any:
    """A release of other adapters and another selector, made from the one that is current now."""
    current = until(lambda: world.registry.releases.current_id(TENANT), 30)
    folder = world.folder / f"candidate-{number}"
    adapters = add_adapters(world.registry, folder, LABELS, seed=7 + number, base_model=world.base_model)
    selector = add_selector(world.registry, world.folder / f"candidate-{number}.safetensors", LABELS, threshold=0.01)
    made = add_release(world.registry, adapters, selector, parent=current, made_by=f"chaos-{number}")
    releases[made.id] = made
    return made


def _rolled_out(world: World, candidate: Any, size: Size) -> str:
    """Begin a rollout, and return the state in which it ends; empty where it has none in time."""
    steps = [{"percent": share, "seconds": 2, "requests": size.requests} for share in (30, 60, 100)]

    def begin() -> Any:
        return world.client.begin_rollout(candidate.id, steps=steps, idempotency_key=f"rollout-{candidate.id}")

    begun = until(lambda: _asked(begin), size.patience_seconds)
    if begun is None:
        return ""

    def ended() -> str:
        known = _asked(lambda: world.client.rollout(begun.id))
        if known and known.state == "holding":  # kills make requests slow, of either release: a person decides
            _asked(lambda: world.client.promote_rollout(begun.id))
        return known.state if known and known.state in _ENDED else ""

    return until(ended, size.patience_seconds) or ""


def _asked(ask: Any) -> Any:
    """The answer of an API that may be away for a moment; None while it is."""
    try:
        return ask()
    except SignalboxError:
        time.sleep(_AGAIN_SECONDS)  # before the next try
        return None


PROMISE = Promise(25, "A rollout loses nothing and mixes no releases", plan, prove)
