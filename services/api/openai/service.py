"""Answers a request in OpenAI's format by a job like any other: accepted, awaited, told whole or as a stream."""

from collections.abc import Mapping
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
from services.api.openai.answers import Asked, Form, whole
from services.api.openai.ending import answered
from services.api.openai.names import Fields, resolve
from services.api.openai.schemas import ChatRequest, CompletionRequest
from services.api.openai.stream import Chunks
from services.api.openai.waiting import Waiting
from services.api.openai.wire import event_lines
from shared.contracts.jobs import Priority, new_job_id
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


async def answer(
    form: Form, body: ChatRequest | CompletionRequest, request: Request, clients: Clients, wish: Wish
) -> Response:
    """Answer a request; raises `ModelNotFound`, what `accept` raises, and what ended the job badly."""
    job_id = new_job_id(wish.caller.tenant_id, wish.idempotency_key, wish.caller.sees)
    waiting = Waiting(clients, wish.caller, job_id, is_kept=wish.idempotency_key is not None)
    asked = Asked(body.model, body.tier, body.metadata)
    if body.stream and not wish.is_async:
        clients.feed.check_place(wish.caller)
        _, headers = await _accepted(body, clients, wish, job_id)
        return await _streamed(form, asked, body, waiting, headers)
    # Listen before the job exists: then it has no past that would have to be read.
    async with clients.feed.reader(job_id) as reader:
        accepted, headers = await _accepted(body, clients, wish, job_id)
        if wish.is_async:
            return _later(accepted, headers)
        job = await waiting.ended(request, reader, is_new=REPLAYED not in headers)
    return JSONResponse(whole(form, asked, job, answered(job)), headers=headers)


async def _accepted(
    body: ChatRequest | CompletionRequest, clients: Clients, wish: Wish, job_id: str
) -> tuple[Accepted, dict[str, str]]:
    job_request = await as_job(body, clients, wish.caller)
    accepted, is_replayed = await accept(clients, wish.caller, job_request, wish.idempotency_key, job_id)
    headers = {"x-request-id": accepted.id} | ({REPLAYED: "true"} if is_replayed else {})
    return accepted, headers | await clients.quotas.headers(wish.caller)


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
