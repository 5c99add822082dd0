"""Accepts training jobs: checks them against data sets and releases, then queues them."""

import asyncio
from typing import Annotated, Self

import structlog
from pydantic import Field, TypeAdapter, model_validator

from services.api.infra.clients import Clients
from services.api.jobs.accept import create, earlier_job
from services.api.jobs.schemas import Accepted, RunsAfter
from services.api.jobs.views import accepted
from services.api.training.bases import base_of_job, on_its_base
from services.api.training.cost import Quote, quote
from services.api.training.multitask import MultitaskRequest, check_ended
from services.api.training.parts import check_parts, with_parts
from shared.adapter_files import AdapterLimits, BaseShapes, check_planned, check_trainable
from shared.contracts.compose import AdapterCompose
from shared.contracts.corpus_clean import CorpusClean
from shared.contracts.jobs import Job, JobKind, JobState, NewJob, Stage, new_job_id
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.multitask import MultitaskPlan, MultitaskPropose, MultitaskTrain
from shared.contracts.reviews import TrafficReview
from shared.contracts.training import SelectorAdd, SelectorBalance, SelectorDelete, SelectorTrain
from shared.contracts.training_tasks import AdapterCheck, AdapterTrain, ComparisonTrain, TaskTraining
from shared.errors import Invalid, NotFound
from shared.ledger import calls
from shared.names import TRAIN_QUEUE
from shared.registry.parts import Composing
from shared.security.api_keys import Key, Scope
from shared.settings import Settings

log = structlog.get_logger()


class AdapterTrainRequest(AdapterTrain, RunsAfter):
    """`adapter.train`; `after` names training jobs that must succeed first."""


class AdapterCheckRequest(AdapterCheck, RunsAfter):
    """`adapter.check`; `after` names training jobs that must succeed first."""


class AdapterComposeRequest(AdapterCompose, RunsAfter):
    """`adapter.compose`; `after` names training jobs that must succeed first."""


class ComparisonTrainRequest(ComparisonTrain, RunsAfter):
    """`comparison.train`; `after` names training jobs that must succeed first."""


class TrafficReviewRequest(TrafficReview, RunsAfter):
    """`traffic.review`; `after` names training jobs that must succeed first."""


class CorpusCleanRequest(CorpusClean, RunsAfter):
    """`corpus.clean`; `after` names training jobs that must succeed first."""


class SelectorTrainRequest(SelectorTrain, RunsAfter):
    """`selector.train`; `after` names training jobs that must succeed first."""

    @model_validator(mode="after")
    def _can_tell_apart(self) -> Self:
        if len(self.labels) + bool(self.background) < 2:
            raise ValueError("one label alone needs no selector; name a second one, or background rows")
        return self


class SelectorAddRequest(SelectorAdd, RunsAfter):
    """`selector.add`; `after` names training jobs that must succeed first."""


class SelectorBalanceRequest(SelectorBalance, RunsAfter):
    """`selector.balance`; `after` names training jobs that must succeed first."""


class SelectorDeleteRequest(SelectorDelete, RunsAfter):
    """`selector.delete`; `after` names training jobs that must succeed first."""


UpdateRequest = SelectorAddRequest | SelectorBalanceRequest | SelectorDeleteRequest
SelectorTraining = SelectorTrainRequest | UpdateRequest
TaskTrainingRequest = AdapterTrainRequest | AdapterCheckRequest | AdapterComposeRequest | ComparisonTrainRequest
AnyTraining = TaskTrainingRequest | MultitaskRequest | TrafficReviewRequest | CorpusCleanRequest | SelectorTraining
TrainingRequest = Annotated[AnyTraining, Field(discriminator="kind")]
REQUEST: TypeAdapter[AnyTraining] = TypeAdapter(TrainingRequest)
"""Reads a request that is kept or typed; raises `ValidationError`."""


async def submit(
    clients: Clients, caller: Key, request: AnyTraining, idempotency_key: str | None, *, job_id: str = ""
) -> tuple[Accepted, bool]:
    """Queue a training job; returns it, and whether an earlier request with this key created it.

    `job_id` is its id where the caller chose one.

    Raises `NotFound` `dataset_not_found`, `release_not_found`; `Invalid` `dataset_too_small`, `label_unknown`,
    `labels_too_few`, `gate_loosened`, `training_costly`, those of `check_settings` and of `after`; `Conflict`
    `label_exists`; `Denied` where the key may not promote.
    """
    if isinstance(request, SelectorTraining):
        check_promotion(clients.settings, caller, request)
    job_id = job_id or new_job_id(caller.tenant_id, idempotency_key)
    is_known = await earlier_job(clients, caller, idempotency_key)
    pinned = request if is_known else await checked(clients, caller, request)
    job = training_job(job_id, caller, request, pinned)
    created = await create(clients, job)
    log.info("training_accepted", job_id=job.id, kind=request.kind)
    return accepted(job.id, job.kind, JobState.QUEUED), created.existing


async def checked(clients: Clients, caller: Key, request: AnyTraining) -> AnyTraining:
    """Return the request with its names pinned; raises what `submit` raises for it."""
    pinned, cost = await quoted(clients, caller, request)
    cost.check(pinned)
    return await on_its_base(clients, caller.tenant_id, pinned)


async def quoted(clients: Clients, caller: Key, request: AnyTraining) -> tuple[AnyTraining, Quote]:
    """Return the request with its names pinned, and what it will take."""
    pinned = await asyncio.to_thread(pin, clients, caller.tenant_id, request)
    if isinstance(pinned, Composing):
        pinned = await asyncio.to_thread(with_parts, clients, caller.tenant_id, pinned, has_to_wait=bool(request.after))
    base = await base_of_job(clients, caller.tenant_id, pinned)
    if base and isinstance(pinned, TaskTraining | SelectorTrain):
        pinned = pinned.model_copy(update={"settings": base.settled(pinned.settings)})
    for name in named_templates(pinned):
        await asyncio.to_thread(check_template, clients, caller.tenant_id, name, base)
    if base:
        check_settings(pinned, BaseShapes(base.shapes), AdapterLimits.of(clients.settings))
    if base and isinstance(pinned, Composing):
        await asyncio.to_thread(check_parts, clients, caller.tenant_id, pinned, base)
    return pinned, await asyncio.to_thread(quote, clients, caller.tenant_id, pinned, base)


def check_settings(job: AnyTraining, base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where a base model cannot be trained by these settings, or the store would refuse the result.

    An update keeps the form of the weights that it starts from.
    """
    if isinstance(job, AdapterTrain | MultitaskTrain):
        check_planned(job.settings, base, limits)
    elif isinstance(job, ComparisonTrain | MultitaskPlan) or (
        isinstance(job, SelectorTrain) and job.selector not in ("light", "prototypes")
    ):
        check_trainable(job.settings, base)


def named_templates(job: AnyTraining) -> list[str]:
    """Return the templates that a job names for what it makes: an adapter's, or those of a release's labels."""
    if isinstance(job, TaskTraining):
        return [job.settings.template]
    return sorted(set(job.templates.values())) if isinstance(job, SelectorTrain | SelectorAdd) else []


def check_template(clients: Clients, tenant_id: str, name: str, base: BaseModelManifest | None) -> None:
    """Raise `Invalid` where there is no such template, or it does not fit the base model; blocking."""
    templates = clients.registry.templates
    if base:
        templates.for_base(tenant_id, name, base)
    else:
        templates.named(tenant_id, name)


def training_job(job_id: str, caller: Key, request: AnyTraining, pinned: AnyTraining) -> NewJob:
    """Return the job for the ledger; it holds every setting, so that a later change of a default has no effect."""
    return NewJob(
        id=job_id,
        **caller.signature,
        kind=JobKind.TRAIN,
        stage=Stage.TRAIN,
        queue=TRAIN_QUEUE,
        body=pinned.model_dump(mode="json", exclude={"after"} | _left_open(pinned)),
        request=request.model_dump(mode="json", exclude={"after"}),
        after=tuple(request.after),
    )


def _left_open(pinned: AnyTraining) -> set[str]:
    """The fields that only the parent decides, where it is not known yet."""
    is_open = isinstance(pinned, UpdateRequest) and not pinned.parent and "settings" not in pinned.model_fields_set
    return {"settings"} if is_open else set()


def check_promotion(settings: Settings, caller: Key, request: SelectorTraining) -> None:
    """Raise `Denied` where the key may not promote, `Invalid` where the request would loosen the operator's gate."""
    if request.promote:
        caller.check(Scope.PROMOTE)
    least, most = settings.gate_min_accuracy, settings.gate_max_loss
    if "min_accuracy" in request.model_fields_set and request.min_accuracy < least:
        raise _loosened("min_accuracy", request.min_accuracy, f"under the operator's {least:g}")
    if "max_loss" in request.model_fields_set and request.max_loss > most:
        raise _loosened("max_loss", request.max_loss, f"above the operator's {most:g}")


def gate_limits(settings: Settings, request: SelectorTraining) -> dict[str, float]:
    """Return the operator's limits of the gate that the request does not tighten."""
    limits = {"min_accuracy": settings.gate_min_accuracy, "max_loss": settings.gate_max_loss}
    return {name: limit for name, limit in limits.items() if name not in request.model_fields_set}


def _loosened(name: str, asked: float, why: str) -> Invalid:
    return Invalid(
        "gate_loosened",
        f"{name} {asked:g} is {why}: a job may only tighten the gate; leave it out, or let an operator set "
        f"SIGNALBOX_GATE_{name.upper()}",
    )


def pin(clients: Clients, tenant_id: str, request: AnyTraining) -> AnyTraining:
    """Replace names by the ids they refer to now, so that every attempt uses the same data; blocking.

    The parent of a job that runs `after` others is known only when they have ended: its first attempt pins it then.
    Raises `NotFound` or `Invalid` where a data set or a corpus is missing or has too few rows, and the errors of
    `check_against` where an update does not fit the release it starts from.
    """

    def find(ref: str, label: str, min_rows: int) -> str:
        manifest = clients.registry.datasets.get(tenant_id, ref)
        count = manifest.count_for(label)
        if count < min_rows:
            raise Invalid(
                "dataset_too_small",
                f"data set {ref!r} has {count} rows that carry the label {label} or none; give at least {min_rows}",
            )
        return manifest.id

    if isinstance(request, MultitaskRequest):
        check_ended(clients.registry, tenant_id, request)
    if isinstance(request, AdapterCheck) or (isinstance(request, MultitaskPropose) and request.adapter):
        request = request.model_copy(update={"adapter": clients.registry.adapters.get(tenant_id, request.adapter).ref})
    corpora = clients.registry.corpora
    pinned = request.with_datasets(find).with_corpora(lambda ref: corpora.get(tenant_id, ref).id)
    if isinstance(pinned, SelectorTraining):
        pinned = pinned.model_copy(update=gate_limits(clients.settings, pinned))
    return _pin_parent(clients, tenant_id, pinned) if isinstance(pinned, UpdateRequest) else pinned


def _pin_parent(clients: Clients, tenant_id: str, request: UpdateRequest) -> UpdateRequest:
    if not request.parent and request.after:
        return request
    parent = request.parent or clients.registry.releases.current_id(tenant_id)
    if parent:
        release = clients.registry.releases.get(tenant_id, parent)
        request.check_against(release)
        request = request.trained_like(release)
    return request.model_copy(update={"parent": parent})


async def training(clients: Clients, caller: Key, job_id: str) -> Job:
    """Return a training job; raises `NotFound`, also for a job of another kind."""
    job = await clients.ledger.do(calls.get(job_id, caller.tenant_id))
    if job.kind is not JobKind.TRAIN:
        raise NotFound("job_not_found", f"job {job_id} is no training job; look at /v1/jobs/{job_id}")
    return job


async def remembered(clients: Clients, tenant_id: str, job_id: str) -> Job | None:
    """Return a job; None where the ledger has forgotten it."""
    try:
        return await clients.ledger.do(calls.get(job_id, tenant_id))
    except NotFound:
        return None
