"""Training jobs: checked against what they need, then queued."""

import asyncio
from typing import Annotated, Self

import structlog
from pydantic import Field, model_validator

from services.api.accepting import create
from services.api.parts import Parts
from services.api.schemas import Accepted
from services.api.views import accepted
from shared.errors import Invalid, NotFound
from shared.jobs import Job, JobKind, JobState, NewJob, new_job_id
from shared.keys import Key
from shared.ledger import calls
from shared.names import TRAIN_QUEUE
from shared.training import AdapterTrain, SelectorAdd, SelectorTrain, TrainingBody, datasets_named

log = structlog.get_logger()
After = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=64)]
MIN_ROWS = 2


class AdapterTrainRequest(AdapterTrain):
    """`adapter.train`; `after` names training jobs that must succeed first."""

    after: After = Field(default_factory=list)


class SelectorTrainRequest(SelectorTrain):
    """`selector.train`; `after` names training jobs that must succeed first."""

    after: After = Field(default_factory=list)

    @model_validator(mode="after")
    def _can_tell_apart(self) -> Self:
        if len(self.labels) + bool(self.background) < 2:
            raise ValueError("one label alone needs no selector; name a second one, or background rows")
        return self


class SelectorAddRequest(SelectorAdd):
    """`selector.add`; `after` names training jobs that must succeed first."""

    after: After = Field(default_factory=list)


AnyTraining = AdapterTrainRequest | SelectorTrainRequest | SelectorAddRequest
TrainingRequest = Annotated[AnyTraining, Field(discriminator="kind")]


async def submit(parts: Parts, caller: Key, ask: AnyTraining, idempotency_key: str | None) -> tuple[Accepted, bool]:
    """Queue a training job; answers it, and whether an earlier request with this key had made it.

    Raises `NotFound` `dataset_not_found`, `Invalid` `dataset_too_small` and those of `after`.
    """
    job = training_job(new_job_id(caller.tenant_id, idempotency_key), caller.tenant_id, ask)
    if not (idempotency_key and await _exists(parts, caller, job.id)):
        await asyncio.to_thread(check_datasets, parts, caller.tenant_id, ask)
    created = await create(parts, job)
    log.info("training_accepted", job_id=job.id, kind=ask.kind)
    return accepted(job.id, job.kind, JobState.QUEUED), created.existing


def training_job(job_id: str, tenant_id: str, ask: AnyTraining) -> NewJob:
    """The job as the ledger takes it; every setting is written down, so that a later default changes nothing."""
    return NewJob(
        id=job_id,
        tenant_id=tenant_id,
        kind=JobKind.TRAIN,
        queue=TRAIN_QUEUE,
        body=ask.model_dump(mode="json", exclude={"after"}),
        after=tuple(ask.after),
    )


def check_datasets(parts: Parts, tenant_id: str, ask: TrainingBody) -> None:
    """Raise `NotFound` or `Invalid` where a data set is missing or has too few rows; blocking."""
    for ref in datasets_named(ask):
        if parts.registry.dataset(tenant_id, ref).rows < MIN_ROWS:
            raise Invalid("dataset_too_small", f"data set {ref!r} has fewer than {MIN_ROWS} rows; add more")


async def training(parts: Parts, caller: Key, job_id: str) -> Job:
    """A training job; raises `NotFound`, also for a job of another kind."""
    job = await parts.ledger.do(calls.get(job_id, caller.tenant_id))
    if job.kind is not JobKind.TRAIN:
        raise NotFound("job_not_found", f"job {job_id} is no training job; look at /v1/jobs/{job_id}")
    return job


async def _exists(parts: Parts, caller: Key, job_id: str) -> bool:
    try:
        await parts.ledger.do(calls.get(job_id, caller.tenant_id))
    except NotFound:
        return False
    return True
