"""The base model that a training is for."""

import asyncio
from typing import Any, TypeVar

from services.api.infra.base_models import base_of_training, trained_bases
from services.api.infra.clients import Clients
from services.api.training.parts import base_of_parts
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.multitask import MultitaskPropose
from shared.contracts.training import SelectorUpdate, TrainingBody
from shared.contracts.training_tasks import AdapterCheck
from shared.errors import Invalid, NotFound
from shared.registry.parts import Composing, named_parts

JobT = TypeVar("JobT", bound=TrainingBody)


async def base_of_job(clients: Clients, tenant_id: str, job: TrainingBody) -> BaseModelManifest | None:
    """Return the base model that a job names, or would be trained on; raises `NotFound` where its name is unknown."""
    if job.base_model:
        return await asyncio.to_thread(clients.registry.base_models.get, job.base_model)
    if isinstance(job, Composing) and (pin := await asyncio.to_thread(base_of_parts, clients, tenant_id, job)):
        try:
            return await asyncio.to_thread(clients.registry.base_models.get, pin)
        except NotFound:  # nobody serves it now
            return None
    return await base_of_training(clients, tenant_id)


async def on_its_base(clients: Clients, tenant_id: str, job: JobT) -> JobT:
    """Return a job that names no base model with the pin of the one it is for, where a live trainer has that one.

    A trainer of another base model may take the job first, and leaves it to that trainer then. Raises `Invalid` where
    all live trainers have another base model than the adapters that a job builds on.
    """
    if job.base_model:
        return job
    pin = await asyncio.to_thread(_base_it_builds_on, clients, tenant_id, job)
    trained = await trained_bases(clients)
    if pin and trained and pin not in trained and isinstance(job, Composing):
        raise Invalid(
            "adapter_base_mismatch",
            f"{', '.join(one.adapter for one in named_parts(job))}: made for base model {pin}, trainers have "
            f"{', '.join(trained)}; train it anew on one of these, or start a trainer of its base model",
        )
    if not pin and (base := await base_of_training(clients, tenant_id)):
        pin = base.id
    pinned: Any = job.model_copy(update={"base_model": pin}) if pin and pin in trained else job
    return pinned  # type: ignore[no-any-return]


def _base_it_builds_on(clients: Clients, tenant_id: str, job: TrainingBody) -> str:
    """Return the pin of the base model of the release that an update starts from, or of the adapters it builds on."""
    if isinstance(job, AdapterCheck) or (isinstance(job, MultitaskPropose) and job.adapter):
        return clients.registry.adapters.get(tenant_id, job.adapter).base_model
    if isinstance(job, Composing):
        return base_of_parts(clients, tenant_id, job)
    if isinstance(job, SelectorUpdate) and job.parent:
        return clients.registry.releases.get(tenant_id, job.parent).base_model
    return ""
