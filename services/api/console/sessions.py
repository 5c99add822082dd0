"""Sessions of the console: an API key becomes a short-lived cookie that ends with the key."""

import hashlib
import hmac
import secrets
import time
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Response

from services.api.http.auth import clients_of
from services.api.http.query import refuse_unknown
from services.api.infra.clients import Clients
from shared.errors import Denied
from shared.ledger.keys import LedgerKey
from shared.security import api_keys
from shared.security.api_keys import Key, Scope, Unauthenticated

COOKIE = "signalbox_session"
IDLE_SECONDS = 3600
"""A session that nobody uses ends."""
MOST_SECONDS = 12 * 3600
"""Every session ends."""
STREAM_SECONDS = 60.0
"""A stream ends after this time, and the browser opens it again: that asks anew whether its session and key hold."""
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
_READS = ("GET", "HEAD")


class Visitor(NamedTuple):
    """Who looks at a page: the key that signed in, and the token that its forms carry."""

    key: Key
    csrf: str


async def begin(clients: Clients, key: Key) -> str:
    """Begin a session of this key; returns its token."""
    token = secrets.token_urlsafe(32)
    name = _name(token)
    async with clients.ledger.redis.pipeline() as both:
        both.hset(name, mapping={"key": key.id, "began": repr(time.time())})
        both.expire(name, IDLE_SECONDS)
        await both.execute()
    return token


async def end(clients: Clients, token: str) -> None:
    """End a session; one that has ended already is no error."""
    await clients.ledger.redis.delete(_name(token))


async def key_of(clients: Clients, token: str) -> Key:
    """Return the key of a session, which lives on by this; raises `Unauthenticated`."""
    name = _name(token)
    found: Any = clients.ledger.redis  # its reply types cover synchronous clients at once
    kept: dict[str, str] = await found.hgetall(name)
    if not kept or time.time() > float(kept["began"]) + MOST_SECONDS:
        raise Unauthenticated("session_ended", "this session has ended: sign in again")
    key = api_keys.usable(await found.hget(LedgerKey.API_KEYS, kept["key"]))
    await found.expire(name, IDLE_SECONDS)
    return key


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Give the browser a session's token, which no script and no other site's request may use."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=MOST_SECONDS,
        path="/console",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def csrf_of(token: str) -> str:
    """Return the token that the forms of a session carry: it follows from the session's own, which no page holds."""
    return hashlib.sha256(f"csrf:{token}".encode()).hexdigest()[:32]


class Visits:
    """A dependency that returns who visits a page, where the key has one of the scopes; none named means any.

    The visit counts against the key's limit. Raises `Unauthenticated`, `Denied`, `TooMany`, and `Invalid` for a query
    parameter that the page does not know.
    """

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes or tuple(Scope)

    async def __call__(self, request: Request) -> Visitor:
        """Return the visitor."""
        token = request.cookies.get(COOKIE)
        if not token:
            raise Unauthenticated("session_missing", "sign in with an API key; `signalbox keys create` makes one")
        clients = await clients_of(request)
        key = await key_of(clients, token)
        visitor = request.state.visitor = Visitor(key, csrf_of(token))
        if request.method not in _READS:
            await check_own_form(request, visitor)
        await clients.quotas.count_request(key)
        key.check(*self._scopes)
        refuse_unknown(request)
        return visitor


async def check_own_form(request: Request, visitor: Visitor) -> None:
    """Raise `Denied` where a form is another site's, or of a session before this one.

    A form with files bears the token in its header: its body is read when it is its turn.
    """
    check_same_site(request)
    has_files = request.headers.get("content-type", "").startswith("multipart/")
    sent = request.headers.get(CSRF_HEADER) or (None if has_files else (await request.form()).get(CSRF_FIELD))
    if not hmac.compare_digest(str(sent).encode(), visitor.csrf.encode()):
        raise Denied("form_foreign", "this form is not of your session; load the page again and repeat what you did")


def check_same_site(request: Request) -> None:
    """Raise `Denied` where the browser says that another site sent the request."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Denied("form_foreign", "another site sent this form, and it was not taken; use the console's own page")


def _name(token: str) -> str:
    return LedgerKey.CONSOLE.of(hashlib.sha256(token.encode()).hexdigest())


Anyone = Annotated[Visitor, Depends(Visits())]
JobViewer = Annotated[Visitor, Depends(Visits(Scope.SUBMIT, Scope.READ))]
"""Sees the jobs that `Key.sees` names; what was asked and answered needs the scope `read`."""
PromptViewer = Annotated[Visitor, Depends(Visits(Scope.READ))]
Asker = Annotated[Visitor, Depends(Visits(Scope.SUBMIT))]
Judge = Annotated[Visitor, Depends(Visits(Scope.SUBMIT, Scope.REVIEW))]
Reviewer = Annotated[Visitor, Depends(Visits(Scope.REVIEW))]
Trainer = Annotated[Visitor, Depends(Visits(Scope.TRAIN))]
TrainingViewer = Annotated[Visitor, Depends(Visits(Scope.TRAIN, Scope.READ))]
Promoter = Annotated[Visitor, Depends(Visits(Scope.PROMOTE))]
Admin = Annotated[Visitor, Depends(Visits(Scope.ADMIN))]
