"""Idempotency keys for requests that create no job: the same key and request get the same answer."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import redis.asyncio
from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse

from services.api.http.auth import Caller, ClientsDep
from services.api.http.problems import MEDIA_TYPE, problem, problem_headers
from services.api.infra.tasks import end
from shared.errors import Conflict, Invalid, SignalboxError
from shared.ledger.keys import LedgerKey

IN_FLIGHT_SECONDS = 120
"""The key of a process that died during the request is free after this time; one at work renews it."""
KEEP_SECONDS = 86_400
KEEP_REFUSAL_SECONDS = 3_600
"""A key may be refused without end, and each refusal under a key of its own would be kept."""
REPLAYED = "Idempotent-Replayed"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body give the same answer for 24 hours (a refusal for one, a job while it is "
        "kept); another body is refused",
    ),
]


class Answer(NamedTuple):
    """A response that can be stored."""

    status: int
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})
    media_type: str = "application/json"

    def response(self, *, replayed: bool = False) -> JSONResponse:
        """Return the framework's response."""
        headers = {**self.headers, **({REPLAYED: "true"} if replayed else {})}
        return JSONResponse(self.body, self.status, headers, media_type=self.media_type)


class Once:
    """Runs the work of one request unless an answer is stored under its key."""

    def __init__(self, client: "redis.asyncio.Redis", tenant_id: str, path: str, key: str | None) -> None:
        self._redis = client
        self._path = path
        self._name = LedgerKey.IDEMPOTENCY.of(tenant_id, _sha256(key)) if key else None

    async def __call__(
        self,
        request: dict[str, Any],
        work: Callable[[], Awaitable[Answer]],
        again: Callable[[], Awaitable[Answer]] | None = None,
    ) -> JSONResponse:
        """Return the response; raises `Conflict` while the key's first request runs, `Invalid` where it differs.

        `again` makes the answer to a repeated request; with it, no answer is stored but a refusal.
        """
        if self._name is None:
            return (await work()).response()
        fingerprint = _sha256(json.dumps([self._path, request], sort_keys=True))
        marker = json.dumps({"fingerprint": fingerprint})
        if not await self._redis.set(self._name, marker, nx=True, ex=IN_FLIGHT_SECONDS):
            return await self._known(self._name, fingerprint, again)
        renewal = asyncio.create_task(self._renew(self._name))
        try:
            answer = await _outcome(work)
        except BaseException:
            await self._redis.delete(self._name)  # as far as we know, nothing was created: free the key
            raise
        finally:
            await end(renewal)
        await self._keep(self._name, fingerprint, None if again and answer.status < 400 else answer)
        return answer.response()

    async def _keep(self, name: str, fingerprint: str, answer: Answer | None) -> None:
        stored = answer and [*answer[:2], dict(answer.headers), answer.media_type]
        seconds = KEEP_REFUSAL_SECONDS if answer and answer.status >= 400 else KEEP_SECONDS
        await self._redis.set(name, json.dumps({"fingerprint": fingerprint, "answer": stored}), ex=seconds)

    async def _renew(self, name: str) -> None:
        """Keep the key of a request that is at work, however long it takes."""
        while True:
            await asyncio.sleep(IN_FLIGHT_SECONDS / 4)
            with contextlib.suppress(redis.RedisError):
                await self._redis.expire(name, IN_FLIGHT_SECONDS)

    async def _known(self, name: str, fingerprint: str, again: Callable[[], Awaitable[Answer]] | None) -> JSONResponse:
        record = json.loads(await self._redis.get(name) or "{}")
        if record and record["fingerprint"] != fingerprint:
            raise Invalid(
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request; send the same body, or take a new key",
            )
        if "answer" not in record:
            raise Conflict(
                "idempotency_in_flight", "a request with this Idempotency-Key is still at work; try again shortly"
            )
        answer = Answer(*record["answer"]) if record["answer"] or not again else await again()
        return answer.response(replayed=True)


async def _outcome(work: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the answer, also a permanent refusal; raises the errors that a retry may fix."""
    try:
        return await work()
    except SignalboxError as error:
        if error.status >= 500 or error.retryable:
            raise
        return Answer(error.status, problem(error), problem_headers(error), MEDIA_TYPE)


async def once(request: Request, clients: ClientsDep, caller: Caller, key: IdempotencyKey = None) -> Once:
    """Return the idempotency guard of this request."""
    return Once(clients.ledger.redis, caller.tenant_id, f"{request.method} {request.url.path}", key)


OnceDep = Annotated[Once, Depends(once)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
