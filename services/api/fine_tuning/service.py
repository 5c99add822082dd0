"""Fine-tuning jobs in OpenAI's format: trainings of adapters like any other."""

import hashlib

from services.api.fine_tuning.routing import PREFIX, selector_training
from services.api.fine_tuning.rows import FieldRefused, dataset_of
from services.api.fine_tuning.schemas import CreateFineTuning
from services.api.infra.clients import Clients
from services.api.jobs.accept import BASE
from services.api.models import service as models
from services.api.openai.names import model_not_found
from services.api.training import service as training
from services.api.training.service import AdapterTrainRequest, SelectorAddRequest, SelectorTrainRequest
from shared.contracts.fine_tuning import FineTuning, Hyperparameters
from shared.contracts.jobs import Job, JobKind, ListedJob, new_job_id
from shared.contracts.labels import check_adapter_label
from shared.contracts.rows import MAX_NAME_CHARS
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid, NotFound
from shared.ledger import calls
from shared.ledger.calls import JobFilter
from shared.security.api_keys import Key

_PAGES = 20
"""Slices of the tenant's jobs that one call looks through for fine-tuning jobs."""


async def create(clients: Clients, caller: Key, wanted: CreateFineTuning, idempotency_key: str | None) -> Job:
    """Queue a fine-tuning job; raises `FieldRefused`, `ModelNotFound`, and what training jobs raise."""
    await _check_model(clients, caller, wanted.model)
    label, confirmed = _label_of(wanted), wanted.notes.get("confirm_cost") == "true"
    dataset = await dataset_of(clients, caller, "training_file", wanted.training_file, _name(label))
    selector = await _selector(clients, caller, wanted, label, dataset)
    keys = (idempotency_key, idempotency_key and f"{idempotency_key}/selector")
    selector_job = new_job_id(caller.tenant_id, keys[1]) if selector else ""
    request = AdapterTrainRequest(
        label=label,
        dataset=dataset,
        validation=await _validation(clients, caller, wanted, label),
        settings=_settings(wanted.asked, wanted.seed),
        confirm_cost=confirmed,
        fine_tuning=_noted(wanted, selector_job),
    )
    accepted, _ = await training.submit(clients, caller, request, keys[0])
    if selector:
        after = selector.model_copy(update={"after": [accepted.id]})
        await training.submit(clients, caller, after, keys[1], job_id=selector_job)
    return await find(clients, caller, accepted.id)


async def _validation(clients: Clients, caller: Key, wanted: CreateFineTuning, label: str) -> str | None:
    if not wanted.validation_file:
        return None
    name = _name(label, "fine-tuned.validation.")
    return await dataset_of(clients, caller, "validation_file", wanted.validation_file, name)


async def _selector(
    clients: Clients, caller: Key, wanted: CreateFineTuning, label: str, dataset: str
) -> SelectorAddRequest | SelectorTrainRequest | None:
    """Return the training that brings the label into the selector, where that was asked for."""
    route = wanted.notes.get("route", "")
    if route not in ("", "auto"):
        raise FieldRefused("metadata.route", "route_unknown", "route is `auto`: send that, or leave it out")
    confirmed = wanted.notes.get("confirm_cost") == "true"
    return await selector_training(clients, caller, label, dataset, confirm_cost=confirmed) if route else None


async def find(clients: Clients, caller: Key, job_id: str) -> Job:
    """Return a fine-tuning job; raises `NotFound`, also for another kind of job."""
    job = await clients.ledger.do(calls.get(job_id, caller.tenant_id))
    if not _is_one(job):
        raise NotFound(
            "job_not_found", f"there is no fine-tuning job {job_id[:64]!r}: GET /v1/fine_tuning/jobs lists them"
        )
    return job


async def listed(clients: Clients, caller: Key, after: str, limit: int) -> tuple[list[ListedJob], bool]:
    """Return fine-tuning jobs, newest first, that are older than `after`, and whether there are more."""
    before = ""
    if after:
        before = f"({(await find(clients, caller, after)).timestamps['queued']:.3f}"
    found: list[ListedJob] = []
    for _ in range(_PAGES):
        only = JobFilter(kind=JobKind.TRAIN)
        wanted = calls.list_jobs(caller.tenant_id, limit=200, before=before, only=only, include=("body", "result"))
        page = await clients.ledger.do(wanted)
        found += filter(_is_one, page.jobs)
        before = page.next
        if len(found) > limit or not before:
            break
    return found[:limit], len(found) > limit


async def _check_model(clients: Clients, caller: Key, name: str) -> None:
    """Raise `ModelNotFound` for a model that there is none of, and `FieldRefused` for one that is no base model."""
    if name == BASE:
        return
    known = {model["id"]: model["signalbox"] for model in await models.models(clients, caller.tenant_id)}
    if name not in known:
        raise model_not_found(name)
    meant = known[name].get("model", name) if known[name]["kind"] == "alias" else name
    if meant != BASE and known.get(meant, {}).get("kind") != "base":
        raise FieldRefused(
            "model", "model_not_tunable", f"{name!r} is no base model: an adapter starts from `base`, take that"
        )


def _label_of(wanted: CreateFineTuning) -> str:
    written = wanted.notes.get("label") or wanted.suffix
    if not written:
        raise FieldRefused(
            "suffix", "label_missing", "say what the adapter is for: `suffix` or `metadata.label`, such as bank.cards"
        )
    try:
        return check_adapter_label(written)
    except (ValueError, Invalid) as error:
        param = "metadata.label" if wanted.notes.get("label") else "suffix"
        raise FieldRefused(param, "label_malformed", str(error)) from error


def _name(label: str, prefix: str = PREFIX) -> str:
    """The name of a label's data set; of a label that is too long for it a digest, which no selector is made of."""
    named = f"{prefix}{label}"
    return named if len(named) <= MAX_NAME_CHARS else f"fine-tuned.{hashlib.sha256(named.encode()).hexdigest()[:24]}"


def _settings(asked: Hyperparameters, seed: int | None) -> LoraSettings:
    given: dict[str, int | float] = {}
    if asked.n_epochs != "auto":
        given["epochs"] = asked.n_epochs
    if asked.batch_size != "auto":
        given["batch_size"] = asked.batch_size
    if asked.learning_rate_multiplier != "auto":
        given["learning_rate"] = min(0.1, LoraSettings().learning_rate * asked.learning_rate_multiplier)
    if seed is not None:
        given["seed"] = seed
    return LoraSettings.model_validate(given)


def _noted(wanted: CreateFineTuning, selector_job: str) -> FineTuning:
    return FineTuning(
        model=wanted.model,
        training_file=wanted.training_file,
        validation_file=wanted.validation_file,
        hyperparameters=wanted.asked,
        metadata=wanted.metadata,
        selector_job=selector_job,
    )


def _is_one(job: ListedJob) -> bool:
    return bool(job.kind is JobKind.TRAIN and (job.body or {}).get("fine_tuning"))
