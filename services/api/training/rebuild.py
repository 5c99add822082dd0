"""A candidate made anew: the job that made it runs again, on the release that is current now."""

import asyncio

from pydantic import ValidationError

from services.api.infra.clients import Clients
from services.api.jobs.schemas import Accepted
from services.api.training.service import REQUEST, SelectorTraining, remembered, submit
from shared.contracts.jobs import Job, JobKind
from shared.contracts.manifests import Release
from shared.errors import Conflict
from shared.security.api_keys import Key


async def rebuild(clients: Clients, caller: Key, release_id: str, idempotency_key: str | None) -> tuple[Accepted, bool]:
    """Queue the training of a candidate again, with its data and settings; its parent will be the current release.

    Raises `NotFound`; `Conflict` `candidate_not_trained` where no training that the ledger still knows made it; what
    `submit` raises.
    """
    release = await asyncio.to_thread(clients.registry.releases.get, caller.tenant_id, release_id)
    job = await remembered(clients, caller.tenant_id, release.made_by)
    if job is None or job.kind is not JobKind.TRAIN:
        raise _not_trained(release)
    return await submit(clients, caller, _anew(release, job), idempotency_key)


def _anew(release: Release, job: Job) -> SelectorTraining:
    try:
        request = REQUEST.validate_python({**job.body, "parent": "", "promote": False})
    except ValidationError as error:  # of an earlier version
        raise _not_trained(release) from error
    if not isinstance(request, SelectorTraining):
        raise _not_trained(release)
    return request


def _not_trained(release: Release) -> Conflict:
    return Conflict(
        "candidate_not_trained",
        f"the ledger knows no training that made release {release.id}: edit the current release, or submit the "
        "training again",
    )
