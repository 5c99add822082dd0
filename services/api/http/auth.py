"""Authentication: checks a request's API key against the ledger and caches it for a few seconds."""

import hashlib
import time
from typing import Annotated

import redis.asyncio
from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase

from services.api.http.query import refuse_unknown
from services.api.infra.clients import Clients
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Key, Scope, Unauthenticated

REMEMBER_SECONDS = 5.0
"""A revoked key works for at most this time; in return, accepting a job takes only one round trip."""
MAX_REMEMBERED = 10_000


class Authenticator:
    """Caches valid keys by their hash; an invalid key is looked up each time."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client
        self._known: dict[bytes, tuple[float, Key]] = {}

    async def key_of(self, token: str) -> Key:
        """Return the record of a valid key; raises `Unauthenticated`."""
        digest = hashlib.sha256(token.encode()).digest()
        until, key = self._known.get(digest, (0.0, None))
        if key is not None and until > time.monotonic():
            return key
        self._known.pop(digest, None)
        raw = await self._redis.hget(LedgerKey.API_KEYS, api_keys.key_id(token))
        key = api_keys.check(raw, token)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[digest] = (time.monotonic() + min(REMEMBER_SECONDS, key.seconds_left), key)
        return key


async def clients_of(request: Request) -> Clients:
    """Return the clients of the application that handles this request."""
    clients = request.app.state.clients
    assert isinstance(clients, Clients)
    return clients


class Needs(SecurityBase):
    """A dependency that returns the request's key where it is valid and has one of the scopes; none named means any.

    It is one class because the framework's cost per dependency shows in the accept latency.
    The request counts against the key's limit. Raises `Unauthenticated`, `Denied`, `TooMany`, and `Invalid` for a query
    parameter that the route does not know.
    """

    model = HTTPBearerModel(description="An API key: `signalbox keys create` makes one")
    scheme_name = "API key"

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes or tuple(Scope)

    async def __call__(self, request: Request) -> Key:
        """Return the caller's key."""
        key = await _key_of(request)
        key.check(*self._scopes)
        refuse_unknown(request)
        return key


class NeedsRoom(Needs):
    """The same, for a request that adds to the ledger: where its tenant was refused a moment ago, its body is not read.

    One that may repeat an accepted request is read. Raises `TooMany`, and `Unavailable` where the ledger is full.
    """

    async def __call__(self, request: Request) -> Key:
        """Return the caller's key."""
        key = await super().__call__(request)
        if "idempotency-key" not in request.headers:
            await (await clients_of(request)).room.budget(key.tenant_id)
        return key


async def _key_of(request: Request) -> Key:
    """Return the key of a request, which counts once, however many dependencies ask for it."""
    known = getattr(request.state, "key", None)
    if isinstance(known, Key):
        return known
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("key_missing", "send an API key: Authorization: Bearer sbk_...")
    authenticator = request.app.state.authenticator
    assert isinstance(authenticator, Authenticator)
    key = await authenticator.key_of(token)
    await (await clients_of(request)).quotas.count_request(key)
    request.state.key = key
    return key


ClientsDep = Annotated[Clients, Depends(clients_of)]
Caller = Annotated[Key, Depends(Needs())]
Submitter = Annotated[Key, Depends(Needs(Scope.SUBMIT))]
Author = Annotated[Key, Depends(NeedsRoom(Scope.SUBMIT))]
JobReader = Annotated[Key, Depends(Needs(Scope.SUBMIT, Scope.READ))]
"""Reads the jobs that `Key.sees` names."""
Reader = Annotated[Key, Depends(Needs(Scope.READ))]
FileAuthor = Annotated[Key, Depends(Needs(Scope.SUBMIT, Scope.TRAIN))]
FileReader = Annotated[Key, Depends(Needs(Scope.SUBMIT, Scope.READ, Scope.TRAIN))]
Judge = Annotated[Key, Depends(Needs(Scope.SUBMIT, Scope.REVIEW))]
Reviewer = Annotated[Key, Depends(Needs(Scope.REVIEW))]
Trainer = Annotated[Key, Depends(Needs(Scope.TRAIN))]
TrainingReader = Annotated[Key, Depends(Needs(Scope.TRAIN, Scope.READ))]
Promoter = Annotated[Key, Depends(Needs(Scope.PROMOTE))]
Admin = Annotated[Key, Depends(Needs(Scope.ADMIN))]
