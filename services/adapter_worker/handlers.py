"""Handles a generation job: make the adapter resident, generate, write the result once."""

import time
from collections.abc import Callable
from pathlib import Path

from services.adapter_worker import metrics
from services.adapter_worker.engine.base import Completion, Engine, Generation, GenerationRequest, Piece
from services.adapter_worker.prompts import Prompts
from services.adapter_worker.telling import Telling
from services.adapter_worker.tool_calls import Calling
from shared.contracts.built_in_templates import BASE_TEMPLATE
from shared.contracts.constraints import Constraint
from shared.contracts.conversation import count_old_turns, without_old_turns
from shared.contracts.generation import (
    Choice,
    GenerationResult,
    Usage,
    generation_body,
    selection_of,
)
from shared.contracts.generation_params import GenerationParams
from shared.contracts.jobs import Job
from shared.contracts.manifests import Release, ReleaseLabel
from shared.contracts.prompts import told
from shared.errors import Invalid, NotFound
from shared.observability import tracing
from shared.prompts.bound import BoundTemplate
from shared.prompts.of_job import turns_of
from shared.worker.attempt import Attempt
from shared.worker.base_model import leave_to_its_base
from shared.worker.leases import HeldJob
from shared.worker.retry import retry_unavailable

Fetch = Callable[[str], Path]
_EVICTIONS = 8


def generate(
    attempt: Attempt,
    release: Release,
    *,
    engine: Engine,
    base_model: str,
    fetch: Fetch,
    prompts: Prompts,
    store_patience_seconds: float,
    base_template: str = BASE_TEMPLATE,
) -> None:
    """Generate with the adapter that the job's release names for its label, and stream the tokens.

    `base_model` is the pin of the engine's, `base_template` how it is asked without an adapter. Raises `Suspended`
    where another base model answers the label in the release.
    """
    leave_to_its_base(attempt, release.base_of(attempt.job.label), base_model)
    started = time.monotonic()
    job = attempt.job
    entry = label_entry(job, release)
    template = prompts(job.tenant_id, entry.template if entry else base_template)
    body = generation_body(job)
    calling = Calling(job, body.params, template) if body.params.offered_tools else None
    request = generation_request(job, entry, template, calling)
    telling = Telling(attempt.emit, request, calling) if body.tells_tokens else None
    attempt.lease.on_stop(lambda: engine.cancel(job.id, job.attempt))

    def on_piece(piece: Piece) -> None:
        attempt.check()  # the job may have been stopped before the engine accepted it
        if telling:
            telling.piece(piece)

    def resident_generation() -> Generation:
        if entry:
            make_resident(engine, entry.adapter, fetch, attempt.lease, store_patience_seconds)
        attempt.check()
        with tracing.span("engine"):
            generation = engine.generate(request, on_piece)
            trace(generation)
        return generation

    generation = unless_evicted(resident_generation)
    if telling:
        telling.end()
    result = result_of(job, release, base_model, entry, generation, calling)
    if body.explain:
        result = result.model_copy(update={"prompt": told(request.prompt)})
    if attempt.succeed(result.model_dump(mode="json")):
        count(job, generation, time.monotonic() - started)


def unless_evicted(resident_generation: Callable[[], Generation]) -> Generation:
    """Try again if the adapter was evicted, by a promotion or another adapter, before the engine accepted the job."""
    for _ in range(_EVICTIONS):
        try:
            return resident_generation()
        except NotFound as error:
            if error.code != "adapter_not_loaded":
                raise
    return resident_generation()


def label_entry(job: Job, release: Release) -> ReleaseLabel | None:
    """The release's entry for the job's label; None for the base model."""
    if not job.label:
        return None
    if job.label not in release.labels:
        raise Invalid("label_unknown", f"release {release.id} has no label {job.label}")
    return release.labels[job.label]


def runners_up(job: Job, release: Release) -> list[str]:
    """Digests of the adapters of the labels that the selector ranked behind the chosen one."""
    selection = selection_of(job)
    named = [candidate.label for candidate in selection.runners_up] if selection else []
    return [release.labels[label].adapter for label in named if label in release.labels]


def make_resident(engine: Engine, digest: str, fetch: Fetch, held: HeldJob, patience_seconds: float) -> None:
    """Load an adapter; waits while the object store is down, and raises `Unavailable` when that takes too long."""
    if digest in engine.resident:
        return
    with tracing.span("load adapter", adapter=digest):
        try:
            folder = retry_unavailable(lambda: fetch(digest), held, patience_seconds)
        except NotFound as error:
            raise NotFound("adapter_missing", f"the store has lost adapter {digest}; upload it again") from error
        engine.load_adapter(digest, folder)
    metrics.ADAPTER_LOADS.inc()


def generation_request(
    job: Job, entry: ReleaseLabel | None, template: BoundTemplate, calling: Calling | None = None
) -> GenerationRequest:
    """The engine's request: the prompt in the adapter's template, the sampling parameters, and the deadline."""
    body = generation_body(job)
    tools = body.params.offered_tools
    messages = turns_of(body, entry)
    left_seconds = (job.deadline_ms - job.timestamps["running"]) / 1000
    return GenerationRequest(
        job_id=job.id,
        attempt=job.attempt,
        prompt=template.of_turns(messages, job.day, tools),
        old_turns=count_old_turns(messages),
        shorter=lambda dropped: template.of_turns(without_old_turns(messages, dropped), job.day, tools),
        end_ids=template.end_ids,
        shown_ids=calling.shown_ids if calling else frozenset(),
        adapter=entry.adapter if entry else None,
        max_new_tokens=body.params.max_new_tokens,
        temperature=body.params.temperature,
        top_p=body.params.top_p,
        top_k=body.params.top_k,
        seed=body.params.seed if body.params.seed is not None else job.seed,
        stop=body.params.stop,
        constraint=(calling and calling.constraint) or constraint_of(body.params, entry),
        n=body.params.n,
        presence_penalty=body.params.presence_penalty,
        frequency_penalty=body.params.frequency_penalty,
        logit_bias={int(token): value for token, value in body.params.logit_bias.items()},
        deadline=time.monotonic() + left_seconds if job.deadline_ms else None,
        is_batch=body.priority == "batch",
        logprobs=body.params.logprobs,
        top_logprobs=body.params.top_logprobs,
    )


def constraint_of(params: GenerationParams, entry: ReleaseLabel | None) -> Constraint | None:
    """The request's own constraint; else the one that its adapter comes with, unless the request wants none."""
    if isinstance(params.constraint, str):
        return None
    return params.constraint or (entry.constraint if entry else None)


def result_of(
    job: Job,
    release: Release,
    base_model: str,
    entry: ReleaseLabel | None,
    generation: Generation,
    calling: Calling | None = None,
) -> GenerationResult:
    """The result, with the release, adapter, selector and base model that produced it.

    `max_new_tokens_limit` and the tenant's budget bound the number of log-probabilities.
    """
    return GenerationResult(
        choices=tuple(choice_of(n, choice, calling) for n, choice in enumerate(generation.choices)),
        usage=Usage(prompt_tokens=generation.prompt_tokens, completion_tokens=generation.generated_tokens),
        label=job.label or None,
        adapter=entry.adapter if entry else None,
        adapter_ref=entry.ref if entry else None,
        release=job.release,
        selector=release.selector.digest if release.selector and job.selection else None,
        base_model=base_model,
        prompt_shortened=generation.prompt_shortened,
        first_token_ms=round(generation.first_token_ms, 3),
        generate_ms=round(generation.total_ms, 3),
    )


def choice_of(index: int, completion: Completion, calling: Calling | None) -> Choice:
    """One choice of the result; where tools are offered, its calls apart from its text."""
    text, calls = calling.said(index, completion.text) if calling else (completion.text, ())
    is_called = bool(calls) and completion.finish_reason == "stop"
    return Choice(
        index=index,
        text=text,
        finish_reason="tool_calls" if is_called else completion.finish_reason,
        logprobs=completion.logprobs,
        tool_calls=calls,
    )


def trace(generation: Generation) -> None:
    """Record the generation in the current tracing span."""
    after_first_ms = generation.total_ms - generation.first_token_ms
    tracing.event("first token", seconds_ago=after_first_ms / 1000)
    tracing.note(
        prompt_tokens=generation.prompt_tokens,
        generated_tokens=generation.generated_tokens,
        finish_reason=generation.finish_reason,
    )


def count(job: Job, generation: Generation, attempt_seconds: float) -> None:
    """Add the generation to the metrics."""
    label, tokens = job.label or "base", max(len(choice.token_ids) for choice in generation.choices)
    metrics.PROMPT_TOKENS.labels(label).inc(generation.prompt_tokens)
    metrics.GENERATION_TOKENS.labels(label).inc(generation.generated_tokens)
    metrics.FIRST_TOKEN_SECONDS.observe(generation.first_token_ms / 1000)
    if tokens > 1:
        after_first_ms = generation.total_ms - generation.first_token_ms
        metrics.OUTPUT_TOKEN_SECONDS.observe(after_first_ms / (tokens - 1) / 1000)
    before_ms = job.timestamps["running"] - job.timestamps.get("queued", job.timestamps["running"])
    metrics.REQUEST_SECONDS.observe(before_ms / 1000 + attempt_seconds)
