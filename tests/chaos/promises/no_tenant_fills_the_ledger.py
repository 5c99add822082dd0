"""18: no tenant fills the ledger for others; a full one loses nothing, ends what it has and stops no process."""

import random
import time
from collections import Counter

import httpx
import redis

from shared.security.api_keys import Scope
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.promises.overload_is_refused import Memory
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until

_HOG = "hog"
_GROWTH_MIB = 100.0
_HAN = (0x4E00, 0x9FFF)
"""Characters of three bytes, at random: no text shrinks less."""
_FILLER = "filler:"
_ROW = b'{"input":"a"}\n'


def plan(size: Size) -> Plan:
    """A ledger so small that a tenant's budget is used up soon."""
    return Plan(lease_seconds=size.lease_seconds, settings=(("ledger_mib", size.ledger_mib),))


def prove(world: World, size: Size) -> Outcome:
    """A tenant submits, and cancels, all that it can beside another's load; then no memory at all is left."""
    outcome = Outcome()
    processes = {child.name: child.process.pid for child in world.supervisor.children}
    with Load(world, lambda n: _job(n, size), per_second=size.jobs_per_second) as load:
        statuses = _take_all(world, size)
        outcome.at_least("hog_refused_429_with_retry_after", statuses[429, True], size.over, spread=_told(statuses))
        outcome.at_most("hog_answered_otherwise", _others(statuses, 202, 429), 0)
        with Memory(world) as memory:
            refused = _upload(world, size)
            outcome.at_most("upload_api_growth_mib", memory.restart(), _GROWTH_MIB, unit="MiB", spread=f"{refused}")
    outcome.at_most(
        "others_refused", load.statuses.total() - load.statuses[202], 0, spread=f"{load.statuses[202]} accepted"
    )
    if outcome.broken:  # the ledger is full of the hog's jobs: it takes none of those below
        return outcome
    accepted = load.ids + [_post(world, size.words, n) for n in range(size.held)]
    _full(world, size, outcome, accepted)
    outcome.at_most(
        "ledger_full_lost", lost(found := outcomes(world, accepted, size.patience_seconds)), 0, spread=spread(found)
    )
    restarted = [child.name for child in world.supervisor.children if processes[child.name] != child.process.pid]
    outcome.at_most("processes_restarted", len(restarted), 0, spread=", ".join(restarted))
    outcome.injected = {"hog_posts": statuses.total(), "ledger_full_seconds": size.full_seconds}
    return outcome


def _full(world: World, size: Size, outcome: Outcome, accepted: list[str]) -> None:
    """Leave no memory to the ledger for a while; what was accepted has to end meanwhile."""
    waiting = _post(world, size.words, 0)
    filled = _fill(world)
    began = time.monotonic()
    with httpx.Client(base_url=world.supervisor.api_url, headers={"Authorization": f"Bearer {world.key}"}) as http:
        refusal = until(lambda: (a := http.post("/v1/jobs", json=_job(0, size))).status_code == 503 and a, 5)
        ready = http.get("/readyz")
        cancelled = http.delete(f"/v1/jobs/{waiting}")
        left = world.wait_ended(accepted, size.patience_seconds)
        until(lambda: time.monotonic() - began > size.full_seconds, size.full_seconds + 1)
        present = len(world.present(world.supervisor.children))
        world.redis.delete(*filled)
        again = until(lambda: http.post("/v1/jobs", json=_job(0, size)).status_code == 202, size.patience_seconds)
        until(lambda: http.get("/readyz").status_code == 200, size.patience_seconds)
        ready_again = http.get("/readyz").status_code
    outcome.at_least("refused_503_ledger_full", bool(refusal) and refusal.json()["code"] == "ledger_full", 1)
    outcome.at_least("not_ready_with_reason", ready.status_code == 503 and not ready.json()["parts"]["ledger"]["ok"], 1,
                     spread=ready.json()["parts"]["ledger"]["detail"])  # fmt: skip
    outcome.at_least("cancelled_while_full", cancelled.status_code == 200, 1)
    outcome.at_most("unended_while_full", len(left), 0, spread=f"of {len(accepted)}")
    outcome.at_least("present_while_full", present, len(world.supervisor.children) - 1)
    outcome.at_least("accepted_afterwards", bool(again) and ready_again == 200, 1)


def _take_all(world: World, size: Size) -> Counter[tuple[int, bool]]:
    """Post as the greedy tenant until it was refused so often, cancel every other job; answers the statuses."""
    release = world.release.model_copy(update={"tenant_id": _HOG})
    world.registry.releases.add(release)
    world.registry.releases.promote(_HOG, release.id, force=True)
    headers = {"Authorization": f"Bearer {world.new_key(Scope.SUBMIT, tenant_id=_HOG)}"}
    statuses: Counter[tuple[int, bool]] = Counter()
    end = time.monotonic() + size.patience_seconds
    with httpx.Client(base_url=world.supervisor.api_url, headers=headers, timeout=30) as http:
        while statuses[429, True] < size.over and time.monotonic() < end:
            text = " ".join(_word(world) for _ in range(size.chars // 4))
            body = {"input": text, "label": LABELS[0], "priority": "batch", "params": {"max_new_tokens": 2}}
            answer = http.post("/v1/jobs", json=body)
            statuses[answer.status_code, "retry-after" in answer.headers] += 1
            if answer.status_code == 202 and world.random.random() < 0.5:
                http.delete(answer.json()["url"])
    return statuses


def _word(world: World) -> str:
    return "".join(chr(world.random.randint(*_HAN)) for _ in range(3))


def _fill(world: World) -> list[str]:
    """Write until the server refuses; answers the keys."""
    names = []
    size_bytes = 1 << 20
    while size_bytes > 1 << 10:
        try:
            name = f"{_FILLER}{len(names)}"
            world.redis.set(name, random.randbytes(size_bytes // 2).hex())
            names.append(name)
        except redis.exceptions.OutOfMemoryError:
            size_bytes //= 2
    return names


def _upload(world: World, size: Size) -> int:
    """Upload as many of the shortest rows as a data set holds and more; answers the status."""
    headers = {"Authorization": f"Bearer {world.key}"}
    with httpx.Client(base_url=world.supervisor.api_url, headers=headers, timeout=120) as http:
        rows = _ROW * (size.upload_bytes // len(_ROW))
        return http.post("/v1/datasets?name=rows", content=rows).status_code


def _job(number: int, size: Size) -> dict[str, object]:
    label = LABELS[number % len(LABELS)]
    return {"input": text_for(label, number, 2), "label": label, "params": {"max_new_tokens": 2}}


def _post(world: World, words: int, number: int) -> str:
    label = LABELS[number % len(LABELS)]
    body = {"input": text_for(label, number, words), "label": label, "params": {"max_new_tokens": 2 * words}}
    return str(world.client.post("/v1/jobs", body)["id"])


def _others(statuses: Counter[tuple[int, bool]], *known: int) -> int:
    return sum(count for (status, _), count in statuses.items() if status not in known)


def _told(statuses: Counter[tuple[int, bool]]) -> str:
    return ", ".join(f"{count} x {status}" for (status, _), count in sorted(statuses.items()))


PROMISE = Promise(18, "No tenant fills the ledger, and a full one loses nothing", plan, prove)
