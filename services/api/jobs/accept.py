"""Accepts jobs: place a job by the current release, write it to the ledger, then answer the request."""

from collections.abc import Callable

import structlog

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.schemas import MAX_INSTRUCTION_CHARS, Accepted, Conversation, JobRequest
from services.api.jobs.under import named_release, under
from services.api.jobs.views import accepted
from shared.constraints.checker import ConstraintInvalid
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.constraints import Constraint
from shared.contracts.conversation import last_user
from shared.contracts.generation import TELLS_TOKENS, GenerationBody, SelectBody, generation_body
from shared.contracts.jobs import Job, JobKind, JobState, NewJob, Stage, new_job_id
from shared.contracts.manifests import Release
from shared.contracts.rollouts import Trial
from shared.contracts.templates import OWN, ToolsNotRendered
from shared.contracts.tools import call_constraint
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.ledger import calls
from shared.ledger.calls import Created
from shared.names import BASE_GROUP, SELECT_QUEUE, generate_queue
from shared.observability import tracing
from shared.security.api_keys import Key, Scope
from shared.settings import Settings

log = structlog.get_logger()
TRIES = 5
BASE = "base"
"""In place of a label, it names the base model alone."""
AUTO = "auto"
"""In place of a label, it leaves the choice to the selector."""
_SHOWN_LABELS = 20


async def accept(
    clients: Clients,
    caller: Key,
    request: JobRequest,
    idempotency_key: str | None,
    job_id: str = "",
    *,
    tells_tokens: bool = True,
) -> tuple[Accepted, bool]:
    """Write a generation job; returns it, and whether an earlier request with this key created it.

    `job_id` is the id that follows from the key, for whoever listens to the job before it exists. Without
    `tells_tokens` the job's events are those of its states alone.

    Raises `Invalid` `label_unknown`, `adapter_unknown`, `input_too_long`, `instruction_too_long`, `above_token_limit`,
    `constraint_invalid`, `tools_invalid`, `tools_not_rendered`; `ModelRetired`; `Conflict` `no_release`,
    `release_not_served`; `NotFound` for a release that it names; `Denied`; `TooMany`; `Unavailable`.
    """
    request = await clients.user_ids.without_id(caller.tenant_id, request)
    return await accept_hidden(clients, caller, request, idempotency_key, job_id, tells_tokens=tells_tokens)


async def accept_hidden(
    clients: Clients,
    caller: Key,
    request: JobRequest,
    idempotency_key: str | None,
    job_id: str = "",
    *,
    tells_tokens: bool = True,
) -> tuple[Accepted, bool]:
    """Do the same for a request that has its user's hash in place of the id."""
    body = GenerationBody.model_validate(request.body)
    check_sizes(clients.settings, body, request.params.max_new_tokens)
    job_id = job_id or new_job_id(caller.tenant_id, idempotency_key, caller.sees)
    # A repeated request gets the same answer and costs no tokens, even if the release no longer has its label.
    earlier = await earlier_job(clients, caller, idempotency_key, caller.sees)
    if earlier and {**earlier.body, TELLS_TOKENS: True} == {**request.body, TELLS_TOKENS: True}:
        return _answer_of(earlier), True
    await check_constraint(clients, caller, body)
    await clients.quotas.count_tokens(caller, *body.texts, new_tokens=body.params.new_tokens)

    named = await named_release(clients, caller.tenant_id, request.release)

    def build(current: CurrentRelease) -> NewJob:
        its = under(current, named)
        job = generation_job(job_id, caller, request, its, clients.settings)
        check_template(its.release, job.label, body)
        clients.retiring.check(caller.tenant_id, its.release, job.label)
        if its.id != current.id:
            job = job.model_copy(update={"current_release": current.id})
        return job if tells_tokens else untold(job)

    job, created = await create_under_release(clients, caller.tenant_id, build)
    if created.existing:
        return _answer_of(await clients.ledger.do(calls.get(job_id, caller.tenant_id))), True
    log.debug("job_accepted", job_id=job_id, release=job.release, queue=job.queue)
    return accepted(job.id, job.kind, job.state, label=job.label, release=job.release), False


class ToolsInvalid(Invalid):
    """A call of the tools is demanded, and their parameters do not compile to what an answer must be."""

    param = "tools"


async def check_constraint(clients: Clients, caller: Key, body: GenerationBody) -> None:
    """Raise `Invalid` `constraint_invalid`, `tools_invalid` where what binds the answer does not compile."""
    if isinstance(body.params.constraint, Constraint):
        await clients.constraints.check(caller.tenant_id, body.params.constraint)
    if demanded := body.params.demanded_tools:
        try:
            await clients.constraints.check(caller.tenant_id, call_constraint(demanded))
        except ConstraintInvalid as error:
            raise ToolsInvalid("tools_invalid", f"correct the parameters of tools: {error.why}") from error


def check_template(release: Release, label: str, body: GenerationBody) -> None:
    """Raise `ToolsNotRendered` where the template of a named label is known to write no tools."""
    entry = release.labels.get(label)
    if entry and body.needs_tools and BUILT_IN.get(entry.template, BUILT_IN[OWN]).name != OWN:
        raise ToolsNotRendered(entry.template)


async def create_under_release(
    clients: Clients, tenant_id: str, build: Callable[[CurrentRelease], NewJob]
) -> tuple[NewJob, Created]:
    """Write a job under the current release and send it; start over where the release changes at that moment."""
    for _ in range(TRIES):
        job = placed(clients, await clients.releases.current(tenant_id), build)
        try:
            return job, await create(clients, job)
        except Conflict as error:
            if error.code != "release_moved":
                raise
        await clients.releases.refresh(tenant_id)
    raise Unavailable("release_moving", "the current release keeps changing; try again shortly", retry_after_seconds=1)


def placed(clients: Clients, current: CurrentRelease, build: Callable[[CurrentRelease], NewJob]) -> NewJob:
    """Return the job under the current release, or where it belongs to a rollout's share, under the candidate.

    A request that names what the candidate lacks stays under the current release, as one that names another release.
    """
    job = build(current)
    on_trial = clients.rollouts.of(job.tenant_id, current.id)
    if on_trial is None or job.release != current.id:
        return job
    rollout, candidate = on_trial
    sender = job.key_line or job.key if rollout.stick_by == "key" else job.id
    trial = Trial(rollout.id, rollout.percent)
    if not rollout.picks(job.conversation or sender):
        return job.model_copy(update={"trial": trial})
    if rollout.strategy == "shadow":
        return job.model_copy(update={"trial": trial._replace(shadow=candidate.id)})
    try:
        return build(candidate).model_copy(update={"trial": trial, "current_release": current.id})
    except (Conflict, Invalid, NotFound):
        return job.model_copy(update={"trial": trial})


async def create(clients: Clients, job: NewJob) -> Created:
    """Write a job to the ledger, then give its message to the outbox."""
    settings = clients.settings
    if tracing.is_on():
        job = job.model_copy(update={"trace": tracing.carrier()})
    budget = await clients.room.budget(job.tenant_id)
    with clients.room.noting(job.tenant_id):
        created = await clients.ledger.do(
            calls.create(job, settings.result_ttl_seconds, max_waiting=settings.waiting_shares, budget=budget)
        )
    if created.send:
        clients.outbox.put(created.send)
    return created


def check_sizes(settings: Settings, body: SelectBody, max_new_tokens: int | None = None) -> None:
    """Raise `Invalid` where the request's text, or the answer it requests, exceeds the limits of this deployment."""
    instruction_chars = len(body.system_text)
    if instruction_chars > MAX_INSTRUCTION_CHARS:
        raise Invalid(
            "instruction_too_long",
            f"the system message has {instruction_chars} characters, {MAX_INSTRUCTION_CHARS} are taken: shorten it",
        )
    # Earlier turns may be lost, and the body's bytes are bounded.
    chars = sum(len(turn.text) for turn in body.messages[last_user(body.messages) :])
    if chars > settings.max_input_chars:
        raise Invalid(
            "input_too_long",
            f"input has {chars} characters, at most {settings.max_input_chars} are taken; shorten or split it",
        )
    if max_new_tokens and max_new_tokens > settings.max_new_tokens_limit:
        raise Invalid(
            "too_many_tokens", f"params.max_new_tokens may be {settings.max_new_tokens_limit} at most: ask for fewer"
        )


def generation_job(
    job_id: str, caller: Key, request: JobRequest, current: CurrentRelease, settings: Settings
) -> NewJob:
    """Return the job for the ledger: its queue is the selector's, or that of the named label's group."""
    check_explained(caller, request)
    release = current.release
    label = named_label(request, release)
    is_selected = not label and request.label != BASE
    if is_selected and release.selector is None:
        raise Conflict("no_selector", "the current release has no selector; name a label, or train a selector")
    return NewJob(
        id=job_id,
        **caller.signature,
        kind=JobKind.GENERATE,
        stage=Stage.SELECT if is_selected else Stage.GENERATE,
        queue=SELECT_QUEUE if is_selected else generate_queue(release.labels[label].group if label else BASE_GROUP),
        body=request.body,
        release=current.id,
        label=label,
        kept_label=label if release.reads_dialogues else "",
        deadline_seconds=request.deadline_seconds or settings.default_deadline_seconds,
    )


def check_explained(caller: Key, request: Conversation) -> None:
    """Raise `Denied` where a request asks for what only readers of the training data may see."""
    if request.explain:
        caller.check(Scope.READ)


def untold(job: NewJob) -> NewJob:
    """Return the job as one whose pieces nobody reads: writing them would cost as much as making it."""
    return job.model_copy(update={"body": {**job.body, TELLS_TOKENS: False}, "request": job.request or job.body})


def named_label(request: JobRequest, release: Release) -> str:
    """Return the label that a request names, directly or by an adapter; empty for the selector and the base model."""
    if request.label == BASE:
        return ""
    if request.label is not None and request.label not in release.labels:
        raise Invalid("label_unknown", f"the current release has no label {request.label!r}; it has {_known(release)}")
    if request.adapter is None:
        return request.label or ""
    named = [label for label, entry in release.labels.items() if request.adapter in (entry.ref, entry.adapter)]
    if len({release.labels[label].prefix for label in named}) > 1:
        raise Invalid(
            "adapter_shared",
            f"adapter {request.adapter!r} answers {len(named)} labels, each in its own way: name one in `label`, such "
            f"as {named[0]}",
        )
    if named:
        return named[0]
    refs = ", ".join(entry.ref for entry in list(release.labels.values())[:_SHOWN_LABELS])
    raise Invalid(
        "adapter_unknown", f"the current release has no adapter {request.adapter!r}; name one that it has: {refs}"
    )


def _known(release: Release) -> str:
    labels = sorted(release.labels)
    more = f" and {len(labels) - _SHOWN_LABELS} more (GET /v1/models)" if len(labels) > _SHOWN_LABELS else ""
    return ", ".join(labels[:_SHOWN_LABELS]) + more


async def earlier_job(clients: Clients, caller: Key, idempotency_key: str | None, line: str = "") -> Job | None:
    """Return the job that an earlier request with this idempotency key created, if any."""
    if idempotency_key is None:
        return None
    try:
        return await clients.ledger.do(calls.get(new_job_id(caller.tenant_id, idempotency_key, line), caller.tenant_id))
    except NotFound:
        return None


def _answer_of(job: Job) -> Accepted:
    """Repeat the first answer: it shows the state in which the job was accepted, not its present one."""
    named = generation_body(job).is_named
    state = JobState.ROUTED if named else JobState.QUEUED
    return accepted(job.id, job.kind, state, label=job.label if named else "", release=job.release)
