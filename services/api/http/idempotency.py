"""The same key and request give the same answer; for whatever is made outside the ledger of jobs."""

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
from shared.errors import Conflict, Invalid, SignalboxError
from shared.ledger.keys import LedgerKey

IN_FLIGHT_SECONDS = 120
"""A process that dies in the middle frees its key after this time."""
KEEP_SECONDS = 86_400
REPLAYED = "Idempotent-Replayed"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body give the same answer for 24 hours; another body is refused",
    ),
]


class Answer(NamedTuple):
    """A response that can be kept."""

    status: int
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})
    media_type: str = "application/json"

    def response(self, *, replayed: bool = False) -> JSONResponse:
        """As the framework sends it."""
        headers = {**self.headers, **({REPLAYED: "true"} if replayed else {})}
        return JSONResponse(self.body, self.status, headers, media_type=self.media_type)


class Once:
    """Runs the work of one request unless its key has an answer already."""

    def __init__(self, client: "redis.asyncio.Redis", tenant_id: str, path: str, key: str | None) -> None:
        self._redis = client
        self._path = path
        self._name = LedgerKey.IDEMPOTENCY.of(tenant_id, _sha256(key)) if key else None

    async def __call__(self, request: dict[str, Any], work: Callable[[], Awaitable[Answer]]) -> JSONResponse:
        """The response; raises `Conflict` while another request holds the key, `Invalid` where it asked otherwise."""
        if self._name is None:
            return (await work()).response()
        fingerprint = _sha256(json.dumps([self._path, request], sort_keys=True))
        marker = json.dumps({"fingerprint": fingerprint})
        if not await self._redis.set(self._name, marker, nx=True, ex=IN_FLIGHT_SECONDS):
            return await self._known(self._name, fingerprint)
        try:
            answer = await _outcome(work)
        except BaseException:
            await self._redis.delete(self._name)  # nothing was made, as far as we know: the key is free again
            raise
        kept = json.dumps(
            {"fingerprint": fingerprint, "answer": [*answer[:2], dict(answer.headers), answer.media_type]}
        )
        await self._redis.set(self._name, kept, ex=KEEP_SECONDS)
        return answer.response()

    async def _known(self, name: str, fingerprint: str) -> JSONResponse:
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
        return Answer(*record["answer"]).response(replayed=True)


async def _outcome(work: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer, a refusal included; what a retry may mend is raised."""
    try:
        return await work()
    except SignalboxError as error:
        if error.status >= 500 or error.retryable:
            raise
        return Answer(error.status, problem(error), problem_headers(error), MEDIA_TYPE)


async def once(request: Request, clients: ClientsDep, caller: Caller, key: IdempotencyKey = None) -> Once:
    """The guard of this request."""
    return Once(clients.ledger.redis, caller.tenant_id, f"{request.method} {request.url.path}", key)


OnceDep = Annotated[Once, Depends(once)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
