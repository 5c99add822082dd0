"""10: an answer is made by one release alone, and a promotion is everywhere within seconds."""

import time
from typing import Any

from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import TENANT, add_adapters, add_release, add_selector, text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World

_PREFIX = 8
"""The echo engine's answer begins with so much of the digest of the adapter that it really used."""


def plan(size: Size) -> Plan:
    """The echo engine names in its text the adapter that was used."""
    return Plan(lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """Two releases with other adapters and another selector, one promoted over the other and back, under load."""
    first = world.registry.releases.get(TENANT, world.registry.releases.current_id(TENANT))
    second = _other_release(world, first)
    releases = {release.id: release for release in (first, second)}

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        return {"input": text_for(label, number), **({"label": label} if number % 3 else {})}

    spreads: list[float] = []
    with Load(world, body, per_second=size.jobs_per_second) as load:
        for number in range(size.moves):
            target = (second, first)[number % 2]
            path = f"/v1/releases/{target.id}/promote" if target is second else "/v1/releases/rollback"
            world.client.post(path, {})
            moved = time.monotonic()
            spreads.append(time.monotonic() - moved if world.wait_release(target.id, 30) else float("inf"))
    found = outcomes(world, load.ids, size.patience_seconds)
    jobs = [job for job in world.jobs(load.ids) if job and job["result"]]
    mixed = [job["id"] for job in jobs if not is_of_one(job, releases[job["release"]])]
    used = {job["release"] for job in jobs}
    outcome = Outcome({"moves": len(spreads), "jobs": len(jobs)})
    outcome.at_most("answers_that_mix_releases", len(mixed), 0, spread=f"{len(jobs)} answers of {len(used)} releases")
    outcome.at_most("release_everywhere_max_s", max(spreads), size.goal_seconds, unit="s",
                    spread=f"median {sorted(spreads)[len(spreads) // 2]:.2f}, n={len(spreads)}")  # fmt: skip
    outcome.at_most("jobs_lost_by_promotions", lost(found), 0, spread=spread(found))
    outcome.at_least("releases_that_answered", len(used), 2)
    return outcome


def _other_release(world: World, first: Any) -> Any:
    adapters = add_adapters(world.registry, world.folder / "other", LABELS, seed=7, base_model=world.base_model)
    selector = add_selector(world.registry, world.folder / "other.safetensors", LABELS, threshold=0.01)
    return add_release(world.registry, adapters, selector, parent=first.id, made_by="chaos")


def is_of_one(job: dict[str, Any], release: Any) -> bool:
    """Whether the job, its result, its adapter and its selection all are of the release it was accepted with."""
    result, label = job["result"], job["label"]
    entry = release.labels.get(label)
    digest = entry.adapter if entry else None
    said = (job["selection"] or {}).get("release", job["release"])
    threshold = (job["selection"] or {}).get("threshold", release.selector.threshold)
    return (
        result["release"] == said == job["release"]
        and result["adapter"] == digest
        and threshold == release.selector.threshold
        and result["text"].startswith(digest[:_PREFIX] if digest else "base")
    )


PROMISE = Promise(10, "A release changes in one step", plan, prove)
