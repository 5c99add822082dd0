"""Begins a rebase, shows what became of it, cancels it: a rebase is the training of its candidate's selector."""

import asyncio
import hashlib
import itertools
import json
from typing import Any

from services.api.infra.base_models import served_bases, trained_bases
from services.api.infra.clients import Clients
from services.api.rebases.bases import base_named
from services.api.rebases.plan import Move, Plan, plan
from services.api.rebases.progress import Facts, body_of, view
from services.api.rebases.schemas import RebasePlan, RebaseRequest, RebaseSummary, RebaseView
from services.api.rebases.selector import fate_of_failed, selector_training
from services.api.training import service as training
from services.api.training.service import AdapterTrainRequest, AnyTraining
from shared.contracts.jobs import Job, JobKind, JobState, new_job_id
from shared.contracts.manifests import AdapterManifest, Release
from shared.errors import Conflict
from shared.ledger import calls
from shared.ledger.calls import JobFilter
from shared.security.api_keys import Key

_PAGES = 20
"""Slices of the tenant's jobs that one call looks through for rebases."""


async def planned(clients: Clients, caller: Key, request: RebaseRequest) -> tuple[Move, Plan]:
    """Plan a rebase.

    Raises `NotFound` `base_model_not_found`, `release_not_found`; `Conflict` `no_release`, `no_selector`,
    `rebase_same_base`.
    """
    base = await base_named(clients, request.base_model)
    release = await _release(clients, caller.tenant_id, request.release)
    if release.selector is None:
        raise Conflict(
            "no_selector",
            f"release {release.id} has no selector, and a rebase makes one: train a selector first, or train its "
            "adapters anew one by one",
        )
    if release.bases == {base.id}:
        raise Conflict("rebase_same_base", f"release {release.id} is on base model {base.id} already: name another one")
    move = Move(caller.tenant_id, release, base, request)
    jobs = await _jobs_of_adapters(clients, caller.tenant_id, release)
    found = await asyncio.to_thread(plan, clients, move, jobs)
    return move, found._replace(
        shown=found.shown.model_copy(update={"warnings": await _warnings(clients, found.shown)})
    )


async def begin(clients: Clients, caller: Key, request: RebaseRequest) -> RebaseView:
    """Queue the trainings of a rebase; again, it goes on where it was: what is queued or trained is not done anew.

    Raises what `planned` and trainings raise; `Conflict` `rebase_blocked`, `rebase_open`, `base_model_untrained`.
    """
    move, found = await planned(clients, caller, request)
    if going_on := await _open_one(clients, caller, move):
        return await show(clients, caller, going_on)
    if found.shown.problems:
        raise Conflict("rebase_blocked", f"change what stands in the way: {' '.join(found.shown.problems)}")
    if move.base.id not in await trained_bases(clients):
        raise Conflict("base_model_untrained", _start("trainer", found.shown))
    jobs = {label: await _queued(clients, caller, found.trainings[label]) for label in sorted(found.trainings)}
    selector = await asyncio.to_thread(selector_training, clients, move, found, jobs)
    return await show(clients, caller, await _queued(clients, caller, selector))


async def listed(clients: Clients, caller: Key) -> list[RebaseSummary]:
    """Return the rebases whose jobs the ledger keeps, newest first."""
    found: list[RebaseSummary] = []
    before = ""
    for _ in range(_PAGES):
        only = JobFilter(kind=JobKind.TRAIN)
        page = await clients.ledger.do(calls.list_jobs(caller.tenant_id, limit=200, before=before, only=only))
        found += [
            RebaseSummary(
                id=job.id,
                state=job.state,
                labels=(job.trains or {}).get("labels") or [],
                created_at=min(job.timestamps.values()) / 1000,
            )
            for job in page.jobs
            if (job.trains or {}).get("rebase")
        ]
        before = page.next
        if not before:
            break
    return found


async def show(clients: Clients, caller: Key, rebase_id: str) -> RebaseView:
    """Return one rebase as it is now; raises `NotFound`."""
    job = await clients.ledger.do(calls.get(rebase_id, caller.tenant_id))
    body = body_of(job)
    assert body.rebase is not None
    kept = {label: await training.remembered(clients, caller.tenant_id, one) for label, one in body.rebase.jobs.items()}
    jobs = {label: found for label, found in kept.items() if found}
    return await asyncio.to_thread(lambda: view(_facts(clients, job, jobs)))


async def cancel(clients: Clients, caller: Key, rebase_id: str) -> RebaseView:
    """Cancel what of a rebase has not ended; adapters that are trained stay. Raises `NotFound`."""
    job = await clients.ledger.do(calls.get(rebase_id, caller.tenant_id))
    rebase = body_of(job).rebase
    assert rebase is not None
    for one in (rebase_id, *rebase.jobs.values()):  # the selector first: it would go on with what is left
        if (known := await training.remembered(clients, caller.tenant_id, one)) and not known.state.is_final:
            await clients.ledger.do(calls.cancel(one, caller.tenant_id))
    return await show(clients, caller, rebase_id)


async def _release(clients: Clients, tenant_id: str, release_id: str) -> Release:
    if not release_id:
        return (await clients.releases.current(tenant_id)).release
    return await asyncio.to_thread(clients.registry.releases.get, tenant_id, release_id)


async def _warnings(clients: Clients, shown: RebasePlan) -> list[str]:
    """What has to be there later on: a trainer before the rebase begins, workers before the candidate is rolled out."""
    found = []
    if shown.base_model not in await trained_bases(clients):
        found.append(_start("trainer", shown))
    if shown.base_model not in await served_bases(clients):
        found.append(_start("worker", shown) + ", before the candidate is rolled out")
    return found


def _start(kind: str, shown: RebasePlan) -> str:
    name = shown.base_name or "NAME"
    return f"no live {kind} has base model {name}: start one, SIGNALBOX_BASE_MODEL={name} signalbox {kind}"


async def _open_one(clients: Clients, caller: Key, move: Move) -> str:
    """Return the id of this rebase where it has not ended; raises `Conflict` where another one has not."""
    for other in await listed(clients, caller):
        if other.state.is_final:
            continue
        body = body_of(await clients.ledger.do(calls.get(other.id, caller.tenant_id)))
        asked = (move.release.id, move.base.id, fate_of_failed(move.request))
        if body.rebase and (body.parent, body.base_model, body.rebase.failed) == asked:
            return other.id
        raise Conflict(
            "rebase_open", f"rebase {other.id} has not ended: wait for it, or `signalbox rebases cancel {other.id}`"
        )
    return ""


async def _queued(clients: Clients, caller: Key, request: AnyTraining) -> str:
    """Return the id of the job of this training: the one that is there and did not fail, else a new one.

    Its id follows from the training and the number of the try, so whoever asks again finds it.
    """
    body = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    for number in itertools.count():
        key = f"rebase/{hashlib.sha256(body.encode()).hexdigest()}/{number}"
        job_id = new_job_id(caller.tenant_id, key)
        job = await training.remembered(clients, caller.tenant_id, job_id)
        if job and job.state in (JobState.FAILED, JobState.CANCELLED):
            continue
        if job is None and not await asyncio.to_thread(_was_made, clients, caller.tenant_id, request, job_id):
            await training.submit(clients, caller, request, key)
        return job_id
    raise AssertionError("unreachable")


def _was_made(clients: Clients, tenant_id: str, request: AnyTraining, job_id: str) -> bool:
    """Whether a training that the ledger has forgotten made its adapter."""
    return isinstance(request, AdapterTrainRequest) and bool(_made_by(clients, tenant_id, request.label, job_id))


def _made_by(clients: Clients, tenant_id: str, label: str, job_id: str) -> AdapterManifest | None:
    versions = clients.registry.adapters.list_all(tenant_id, label)
    return next((made for made in versions if made.made_by == job_id), None)


async def _jobs_of_adapters(clients: Clients, tenant_id: str, release: Release) -> dict[str, dict[str, Any]]:
    """Return the bodies of the jobs that trained a release's adapters, as far as the ledger keeps them, by label."""

    def makers() -> dict[str, str]:
        known = {made.ref: made.made_by for made in clients.registry.adapters.list_all(tenant_id)}
        return {label: known.get(entry.ref, "") for label, entry in release.labels.items()}

    found = {}
    for label, maker in (await asyncio.to_thread(makers)).items():
        if maker and (job := await training.remembered(clients, tenant_id, maker)):
            found[label] = job.body
    return found


def _facts(clients: Clients, job: Job, jobs: dict[str, Job]) -> Facts:
    body, tenant_id = body_of(job), job.tenant_id
    assert body.rebase is not None
    releases = clients.registry.releases
    parent = releases.get(tenant_id, body.parent)
    made = {label: _made_by(clients, tenant_id, label, one) for label, one in body.rebase.jobs.items()}
    known = {adapter.ref: adapter for adapter in clients.registry.adapters.list_all(tenant_id)}
    return Facts(
        job,
        parent,
        candidate=next((one for one in releases.list_all(tenant_id) if one.made_by == job.id), None),
        jobs=jobs,
        adapters={label: known[entry.ref] for label, entry in parent.labels.items() if entry.ref in known},
        made={label: one for label, one in made.items() if one},
    )
