"""20: a job is answered by the base model that its release was made for, or waits; never by another of its shapes."""

import signal
from pathlib import Path
from typing import Any

import httpx
from signalbox import ApiError

from shared.contracts.manifests import Release
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.names import generate_queue
from tests.chaos.load import Load, lost, outcomes, spread
from tests.chaos.material import TENANT, add_adapters, add_release, text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import GROUPS, LABELS, Plan, World, until
from tests.support.tiny_model import save_tiny_model

_READY_SECONDS = 120
_REFUSED = "base_model_mismatch"


def plan(size: Size) -> Plan:
    """Workers on the tiny model; the row gives some of them another one."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        has_model=True,
        lease_seconds=size.lease_seconds,
        max_lost_leases=100,
    )


class Bases:
    """Which base model each worker has been started with, and which one each process that may hold jobs."""

    def __init__(self, world: World, folders: dict[str, Path]) -> None:
        self._world = world
        self._folders = folders
        self._pins = {str(folder): pin for pin, folder in folders.items()}
        self._queues = [generate_queue(group) for group in GROUPS]
        self.of_owner: dict[str, str] = {}
        self.restarts = 0

    def note(self) -> None:
        """Keep what the present processes serve, under the names by which the ledger knows them."""
        started = {
            worker.process.pid: self._pins[worker.env["SIGNALBOX_BASE_MODEL"]]
            for worker in self._world.workers
            if worker.is_alive
        }
        self.of_owner |= {owner: started[pid] for owner, pid in self._world.owners().items() if pid in started}

    def serve(self, workers: list[Any], pin: str) -> None:
        """Kill workers, which come back with this base model."""
        self.note()
        for worker in workers:
            worker.env = worker.env | {"SIGNALBOX_BASE_MODEL": str(self._folders[pin])}
            self._world.kill(worker, signal.SIGKILL)
        self.restarts += len(workers)
        until(self._all_serve, _READY_SECONDS)
        self.note()

    def _all_serve(self) -> bool:
        """Whether every worker is there with its base model, and the ledger has forgotten those that were killed."""
        known, pins = self._world.processes(), [self._pins[w.env["SIGNALBOX_BASE_MODEL"]] for w in self._world.workers]
        told = [known.get(worker.process.pid, {}).get("base_model") for worker in self._world.workers]
        bases = self._world.supervisor.ledger.do(calls.gauges()).bases
        return told == pins and all(set(bases.get(queue, [])) == set(pins) for queue in self._queues)


def prove(world: World, size: Size) -> Outcome:
    """Move the workers to another base model and back under load, with promotions and forced rollbacks meanwhile."""
    first = world.registry.releases.get(TENANT, world.registry.releases.current_id(TENANT))
    folder, pin = _other_base(world)
    second = _release_for(world, first, pin)
    bases = Bases(world, {first.base_model: Path(world.settings.base_model), pin: folder})
    made_for = {release.id: release.base_model for release in (first, second)}
    wrongly_moved, said = 0, 0

    def body(number: int) -> dict[str, object]:
        label = LABELS[number % len(LABELS)]
        named = {"label": label} if number % 3 else {}
        return {"input": text_for(label, number), "params": {"max_new_tokens": 6}, **named}

    with Load(world, body, per_second=size.jobs_per_second) as load:
        for _ in range(size.rounds):
            wrongly_moved += not _is_refused(world, f"/v1/releases/{second.id}/promote")
            bases.serve(world.workers[:1], second.base_model)  # beside workers of the first
            _move(world, f"/v1/releases/{second.id}/promote")
            bases.serve(world.workers[1:], second.base_model)  # nobody is left for the first
            wrongly_moved += not _is_refused(world, "/v1/releases/rollback")
            _move(world, "/v1/releases/rollback", force=True)
            said += bool(until(lambda: _says_so(world, first, second), _READY_SECONDS))
            bases.serve(world.workers, first.base_model)
    found = outcomes(world, load.ids, size.patience_seconds)
    jobs = [job for job in world.jobs(load.ids) if job and job["result"]]
    owners = {job["id"]: str(world.redis.hget(LedgerKey.JOB.of(job["id"]), "owner")) for job in jobs}
    others = [job for job in jobs if bases.of_owner.get(owners[job["id"]]) != made_for[job["release"]]]
    untrue = [job for job in jobs if job["result"]["base_model"] != made_for[job["release"]]]
    answered = sorted({job["result"]["base_model"] for job in jobs})
    outcome = Outcome({"worker_restarts": bases.restarts, "moves": 2 * size.rounds, "jobs": len(load.ids)})
    outcome.at_most("base_mismatch_answers", len(others), 0, spread=f"{len(jobs)} answers of {len(answered)} bases")
    outcome.at_most("answers_that_name_another_base", len(untrue), 0)
    outcome.at_most("jobs_lost_between_bases", lost(found), 0, spread=spread(found))
    outcome.at_most("moves_to_a_base_that_nobody_serves", wrongly_moved, 0)
    outcome.at_least("not_ready_and_said_so", said, size.rounds)
    outcome.at_least("bases_that_answered", len(answered), 2)
    return outcome


def _other_base(world: World) -> tuple[Path, str]:
    """A model of the same shapes with other weights, and its pin."""
    from shared.model.base import base_model_id

    folder = world.folder / "other-base"
    if not folder.is_dir():
        save_tiny_model(folder, seed=1)
    return folder, base_model_id(folder)


def _release_for(world: World, first: Release, pin: str) -> Release:
    folder = world.folder / f"adapters-{world.random.random()}"
    adapters = add_adapters(world.registry, folder, LABELS, seed=20, base_model=pin)
    return add_release(world.registry, adapters, first.selector, parent=first.id, made_by="the other base")


def _move(world: World, path: str, **body: bool) -> None:
    world.client.post(path, body)


def _is_refused(world: World, path: str) -> bool:
    """Whether the pointer stays where it is."""
    try:
        _move(world, path)
    except ApiError as error:
        return error.code == _REFUSED
    return False


def _says_so(world: World, needed: Release, served: Release) -> bool:
    """Whether the API and a worker are not ready, and name both base models and the setting."""
    ports = [world.settings.api_port, world.workers[0].metrics_port]
    answers = [httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10) for port in ports]
    words = (needed.base_model, served.base_model, "SIGNALBOX_BASE_MODEL")
    return all(answer.status_code == 503 and all(word in answer.text for word in words) for answer in answers)


PROMISE = Promise(20, "The base model is the release's", plan, prove)
