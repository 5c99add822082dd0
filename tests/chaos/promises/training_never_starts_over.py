"""6: a long training runs once at a time, and goes on from its last checkpoint when its trainer is killed."""

import json
import math
import time
from typing import Any, NamedTuple

from shared.ledger.keys import LedgerKey
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.plans import with_models
from tests.chaos.sizes import Size
from tests.chaos.world import FINAL, Event, World, until
from tests.support.samples import rows

_SETTINGS = {"rank": 2, "max_length": 400, "learning_rate": 0.02}


class Kill(NamedTuple):
    """When a trainer was killed, and how far its attempt had told it was."""

    at_ms: float
    step: int


class Story(NamedTuple):
    """One training from its acceptance to its end."""

    state: str
    seconds: float
    attempts: int
    kills: list[Kill]
    redone: list[int]
    parallel: int
    """Attempts that began while the one before them was alive."""


def prove(world: World, size: Size) -> Outcome:
    """Trainings one after the other, each killed at random steps; another trainer goes on, or its next life."""
    stories = [_train(world, size, number) for number in range(size.trainings)]
    redone = [steps for story in stories for steps in story.redone]
    kills = sum(len(story.kills) for story in stories)
    unasked = sum(story.attempts - 1 - len(story.kills) for story in stories)
    shortest = min(story.seconds for story in stories) / size.lease_seconds
    outcome = Outcome({"trainings": len(stories), "trainer_kills": kills})
    outcome.at_least("trainings_done", sum(s.state == "succeeded" for s in stories), size.trainings)
    outcome.at_least("trainers_killed_in_mid_training", kills, size.trainings * size.kills)
    # The profile has no visibility timeout (decision 2): the lease stands in its place.
    outcome.at_least("training_lasts_leases", shortest, size.times_the_lease, spread=f"lease {size.lease_seconds:g} s")
    outcome.at_most("parallel_trainings", sum(story.parallel for story in stories) + unasked, 0)
    outcome.at_most(
        "steps_redone_max",
        max(redone, default=size.checkpoint_steps + 1),
        size.checkpoint_steps,
        spread=f"{redone}, a checkpoint every {size.checkpoint_steps} steps",
    )
    return outcome


def _train(world: World, size: Size, number: int) -> Story:
    label = f"bank.t{number}"
    content = "\n".join(json.dumps(row) for row in rows("bank.cards", 24, seed=number))
    dataset = world.client.post("/v1/datasets", content=content.encode(), params={"name": f"t{number}"})["id"]
    settings = _SETTINGS | {"epochs": size.epochs, "checkpoint_steps": size.checkpoint_steps, "seed": number}
    body = {"kind": "adapter.train", "label": label, "dataset": dataset, "settings": settings, "evaluate_rows": 0}
    job_id = world.client.post("/v1/training/jobs", body)["id"]
    kills: list[Kill] = []
    while len(kills) < size.kills and (kill := _kill_later(world, size, job_id, kills)):
        kills.append(kill)
    world.wait_ended([job_id], size.patience_seconds)
    return _story(world.events(job_id), world.jobs([job_id])[0] or {"state": "missing"}, kills)


def _kill_later(world: World, size: Size, job_id: str, kills: list[Kill]) -> Kill | None:
    """Kill the trainer that has the job, at a random step of the part of the run that this kill is for."""
    since = kills[-1].at_ms if kills else 0.0

    def step() -> int:
        told = [e for e in world.events(job_id) if e.at_ms > since and _is_step(e)]
        return told[-1].data["step"] if told else 0

    first = until(step, size.patience_seconds)
    if not first:
        return None
    steps = next(e.data["steps"] for e in reversed(world.events(job_id)) if _is_step(e))
    share = steps // (size.kills + 1)
    wanted = max(first, len(kills) * share) + world.random.randrange(1, max(2, share))
    until(lambda: step() >= wanted or world.states([job_id])[job_id] in FINAL, size.patience_seconds)
    owner = world.redis.hget(LedgerKey.JOB.of(job_id), "owner")
    pid = world.owners().get(owner or "")
    trainer = next((c for c in world.supervisor.children if c.process and c.process.pid == pid), None)
    if trainer is None or not world.kill(trainer):
        return None
    return Kill(time.time() * 1000, step())


def _is_step(event: Event) -> bool:
    return event.type == "progress" and event.data["stage"] == "training"


def _story(events: list[Event], job: dict[str, Any], kills: list[Kill]) -> Story:
    starts = [event.at_ms for event in events if event.state == "running"]
    lives = zip(kills, [*(kill.at_ms for kill in kills[1:]), math.inf], strict=True)
    redone = [kill.step - _resumed_at(events, kill, until_ms) for kill, until_ms in lives]
    parallel = sum(start < kill.at_ms for start, kill in zip(starts[1:], kills, strict=False))
    ends = [event.at_ms for event in events if event.state in FINAL]
    seconds = (ends[-1] - starts[0]) / 1000 if ends and starts else 0.0
    return Story(job["state"], seconds, len(starts), kills, redone, parallel)


def _resumed_at(events: list[Event], kill: Kill, until_ms: float) -> int:
    """The step that the next attempt, which ended at `until_ms`, went on from; 0 where it began anew."""
    later = [event for event in events if kill.at_ms < event.at_ms < until_ms and event.type == "progress"]
    return next((event.data["step"] for event in later if event.data["stage"] == "resuming"), 0)


PROMISE = Promise(6, "Long training is never doubled and never starts over", with_models, prove)
