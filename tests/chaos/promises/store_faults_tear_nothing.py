"""12: whatever the object store does, no torn adapter is loaded, errors are clear, and all recovers alone."""

import resource
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.adapter_files import adapter_digest
from shared.contracts.manifests import ReleaseLabel
from tests.chaos.material import TENANT, add_adapters, text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.plans import maybe_with_models
from tests.chaos.sizes import Size
from tests.chaos.world import Plan, World, until

_LABEL = "bank.cards"
_CLEAR = {"store_unavailable", "adapter_corrupt", "disk_full", "adapter_missing"}
_STORE_PATIENCE_SECONDS = 4.0


def plan(size: Size) -> Plan:
    """Workers that reach the store by a proxy, and lose patience soon enough that some jobs fail."""
    usual = maybe_with_models(size)
    settings = (*usual.settings, ("store_patience_seconds", _STORE_PATIENCE_SECONDS))
    return replace(usual, trainers=0, has_proxy=True, settings=settings)


def prove(world: World, size: Size) -> Outcome:
    """In each round a new release needs an adapter that nobody has, while one fault is on."""
    faults = ["kill"] * size.kills + ["slow"] * size.slow + ["full"] * size.full
    faults += [("flip", "cut")[number % 2] for number in range(size.wrong)]
    world.random.shuffle(faults)
    during: Counter[str] = Counter()
    unclear: list[str] = []
    late: list[str] = []
    wrong_adapter = 0
    for number, fault in enumerate(faults):
        digest, job_id = _faulted(world, fault, number)
        after_id = _submit(world, number)
        left = world.wait_ended([job_id, after_id], size.patience_seconds)
        job, after = world.jobs([job_id, after_id])
        assert job is not None
        assert after is not None
        code = (job["error"] or {}).get("code", job["state"])
        during[f"{fault}: {code}"] += 1
        if job["state"] != "succeeded" and code not in _CLEAR:
            unclear.append(f"{fault}: {code}")
        if left or after["state"] != "succeeded":
            late.append(f"{fault}: {(after['error'] or {}).get('code', after['state'])}")
        results = [one["result"] for one in (job, after) if one["result"]]
        wrong_adapter += sum(result["adapter"] != digest for result in results)
    torn, leftovers = _torn(world.settings.cache_dir / "adapters")
    assert world.proxy is not None
    outcome = Outcome(dict(Counter(faults)) | {"bodies_spoiled": world.proxy.spoiled})
    told = ", ".join(f"{count} x {what}" for what, count in sorted(during.items()))
    outcome.at_most("torn_adapters_loaded", len(torn) + wrong_adapter, 0, spread=told)
    outcome.at_most("unclear_errors", len(unclear), 0, spread="; ".join(unclear))
    outcome.at_most("faults_not_recovered_from", len(late), 0, spread="; ".join(late))
    outcome.at_most("partial_downloads_left", leftovers, 0)
    outcome.at_least("store_faults", len(faults), size.kills + size.slow + size.wrong + size.full)
    if size.wrong:
        outcome.at_least("wrong_bodies_sent", world.proxy.spoiled, 1)
    return outcome


def _faulted(world: World, fault: str, number: int) -> tuple[str, str]:
    """A job that needs a new adapter while the fault is on; answers the adapter and the job once it is over."""
    proxy = world.proxy
    assert proxy is not None
    proxy.mode = "refuse"  # so that nobody fetches the adapter before the fault is there
    release = _next_release(world, number)
    digest = release.labels[_LABEL].adapter
    world.registry.releases.promote(TENANT, release.id, force=True)
    until(lambda: world.client.get("/v1/releases/current")["id"] == release.id, 10)
    if fault == "full":
        _limit_files(world, 0)
    elif fault == "kill":
        world.kill_server("s3")
    proxy.mode = fault if fault in ("slow", "flip", "cut") else "pass"
    job_id = _submit(world, number)
    held_seconds = world.random.uniform(0.5, 1.5 * _STORE_PATIENCE_SECONDS)
    until(lambda: world.states([job_id])[job_id] == "running", 10)
    threading.Event().wait(held_seconds)  # how long the fault lasts
    _limit_files(world, resource.RLIM_INFINITY)
    proxy.mode = "pass"
    until(world.server("s3")._is_ready, 90)
    return digest, job_id


def _next_release(world: World, number: int) -> Any:
    current = world.registry.releases.get(TENANT, world.registry.releases.current_id(TENANT))
    folder = world.folder / f"round-{number}"
    manifest = add_adapters(world.registry, folder, [_LABEL], seed=100 + number, base_model=world.base_model)[_LABEL]
    entry = ReleaseLabel(adapter=manifest.digest, ref=manifest.ref, group="bank", template="chatml", instruction="")
    release = current.model_copy(
        update={"parent": current.id, "labels": current.labels | {_LABEL: entry}, "made_by": f"round {number}"}
    )
    world.registry.releases.add(release)
    return release


def _submit(world: World, number: int) -> str:
    body = {"input": text_for(_LABEL, number), "label": _LABEL, "params": {"max_new_tokens": 8}}
    return str(world.client.post("/v1/jobs", body)["id"])


def _limit_files(world: World, size_bytes: int) -> None:
    """What a full disk does to the workers: no file of theirs may grow beyond this."""
    for worker in world.present(world.workers):
        _, hard = resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def _torn(folder: Path) -> tuple[list[str], int]:
    """Adapters in the workers' cache that are not what their names say, and what downloads left behind."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    whole = [entry for entry in entries if not entry.name.startswith(".")]
    return [entry.name for entry in whole if adapter_digest(entry) != entry.name], len(entries) - len(whole)


PROMISE = Promise(12, "Object store faults: nothing torn is loaded, errors are clear, it recovers alone", plan, prove)
