"""Answers a request in OpenAI's format by a job like any other: accepted, awaited, told whole or as a stream."""

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.background import BackgroundTask

from services.api.http.idempotency import REPLAYED
from services.api.infra.clients import Clients
from services.api.jobs.accept import accept
from services.api.jobs.schemas import Accepted, JobRequest
from services.api.openai.answers import Asked, Form, whole, whole_of_several
from services.api.openai.ending import answered
from services.api.openai.names import Fields, resolve
from services.api.openai.schemas import ChatRequest, CompletionRequest
from services.api.openai.stream import Chunks
from services.api.openai.waiting import Waiting
from services.api.openai.wire import event_lines
from shared.contracts.jobs import Priority, new_job_id
from shared.errors import Invalid
from shared.security.api_keys import Key
from shared.settings import Settings

NEW_TOKENS = 256
"""The most tokens of an answer whose request says nothing of it: a chat's answers are longer than a job's."""
_UNBUFFERED = {"X-Accel-Buffering": "no"}
"""Asks proxies to pass each event on as it comes."""


class Wish(NamedTuple):
    """Who asks, and how the request is to be answered."""

    caller: Key
    idempotency_key: str | None
    is_async: bool

    def of_prompt(self, number: int) -> "Wish":
        """Return the wish for one of several prompts; no caller's key has a blank."""
        return self._replace(idempotency_key=self.idempotency_key and f"{self.idempotency_key} {number}")

    def waiting(self, clients: Clients) -> Waiting:
        """Return the wait for the job that this wish makes."""
        job_id = new_job_id(self.caller.tenant_id, self.idempotency_key, self.caller.sees)
        return Waiting(clients, self.caller, job_id, is_kept=self.idempotency_key is not None)


async def answer(
    form: Form, body: ChatRequest | CompletionRequest, request: Request, clients: Clients, wish: Wish
) -> Response:
    """Answer a request; raises `ModelNotFound`, what `accept` raises, and what ended the job badly."""
    asked = Asked(body.model, body.tier, body.metadata, partial(clients.retiring.shutdown_date, wish.caller.tenant_id))
    if isinstance(body, CompletionRequest) and len(body.prompts) > 1:
        return await _answer_several(form, asked, body, request, clients, wish)
    waiting = wish.waiting(clients)
    job_id = waiting.job_id
    if body.stream and not wish.is_async:
        clients.feed.check_place(wish.caller)
        _, headers = await _accepted(body, clients, wish, job_id)
        return await _streamed(form, asked, body, waiting, headers)
    # Listen before the job exists: then it has no past that would have to be read.
    async with clients.feed.reader(job_id, ends_only=True) as reader:
        accepted, headers = await _accepted(body, clients, wish, job_id)
        if wish.is_async:
            return _later(accepted, headers)
        job = await waiting.ended(request, reader, is_new=REPLAYED not in headers)
    result = answered(job)
    headers |= clients.retiring.warnings(wish.caller.tenant_id, result.adapter_ref)
    return JSONResponse(whole(form, asked, job, result), headers=headers)


async def _answer_several(
    form: Form, asked: Asked, body: CompletionRequest, request: Request, clients: Clients, wish: Wish
) -> Response:
    """Answer each prompt by a job of its own; where one cannot be had, the others are cancelled."""
    if wish.is_async:
        raise Invalid("several_prompts", "Prefer: respond-async answers with one job: send one prompt, or leave it out")
    async with contextlib.AsyncExitStack() as stack:
        begun, headers = [], dict[str, str]()
        for number, part in enumerate(body.parts):
            its_wish = wish.of_prompt(number)
            waiting = its_wish.waiting(clients)
            reader = await stack.enter_async_context(clients.feed.reader(waiting.job_id, ends_only=True))
            _, headers = await _accepted(part, clients, its_wish, waiting.job_id)
            stack.push_async_callback(waiting.over)
            begun.append((waiting, reader, REPLAYED not in headers))
        jobs = [await waiting.ended(request, reader, is_new=is_new) for waiting, reader, is_new in begun]
    answers = [(job, answered(job)) for job in jobs]
    return JSONResponse(
        whole_of_several(form, asked, answers, body.n or 1), headers=headers | {"x-request-id": jobs[0].id}
    )


async def _accepted(
    body: ChatRequest | CompletionRequest, clients: Clients, wish: Wish, job_id: str
) -> tuple[Accepted, dict[str, str]]:
    job_request = await as_job(body, clients, wish.caller)
    accepted, is_replayed = await accept(
        clients, wish.caller, job_request, wish.idempotency_key, job_id, tells_tokens=body.stream or wish.is_async
    )
    headers = {"x-request-id": accepted.id} | ({REPLAYED: "true"} if is_replayed else {})
    ref = await _named_ref(clients, wish.caller, accepted.label)
    warnings = clients.retiring.warnings(wish.caller.tenant_id, ref)
    return accepted, headers | warnings | await clients.quotas.headers(wish.caller)


async def _named_ref(clients: Clients, caller: Key, label: str | None) -> str | None:
    """The adapter of a label that a request names."""
    entry = (await clients.releases.current(caller.tenant_id)).release.labels.get(label or "")
    return entry.ref if entry else None


async def as_job(body: ChatRequest | CompletionRequest, clients: Clients, caller: Key) -> JobRequest:
    """Return our own request that asks for the same.

    Raises `ModelNotFound`, `Conflict` `no_release`, and `RequestValidationError` for what no job may say.
    """
    current = await clients.releases.current(caller.tenant_id)
    named = await resolve(body.model, current, caller.tenant_id, clients)
    priority: Priority = "batch" if body.tier == "flex" else "interactive"
    return job_request(body, named, clients.settings, priority=priority)


def job_request(
    body: ChatRequest | CompletionRequest, named: Fields, settings: Settings, *, priority: Priority
) -> JobRequest:
    """Return our own request that asks for the same of what the model's name stands for.

    Raises `RequestValidationError` for what no job may say.
    """
    fields = {
        "messages": body.turns,
        "params": {"max_new_tokens": min(NEW_TOKENS, settings.max_new_tokens_limit), **body.generation},
        "priority": priority,
        "metadata": body.metadata or {},
        "user": body.end_user,
        **named,
    }
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([one | {"loc": ("body", *one["loc"])} for one in found]) from error


async def _streamed(
    form: Form, asked: Asked, body: ChatRequest | CompletionRequest, waiting: Waiting, headers: Mapping[str, str]
) -> Response:
    job = await waiting.job()
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunks = Chunks(form, asked, job, count=body.n or 1, with_usage=with_usage)
    lines = event_lines(waiting.chunks(chunks))
    return StreamingResponse(
        lines,
        media_type="text/event-stream",
        headers={**headers, **_UNBUFFERED},
        background=BackgroundTask(waiting.over),  # also where the client left before the first chunk
    )


def _later(accepted: Accepted, headers: Mapping[str, str]) -> Response:
    more = {"Location": accepted.url, "Preference-Applied": "respond-async"}
    return JSONResponse(accepted.model_dump(mode="json"), 202, {**headers, **more})
