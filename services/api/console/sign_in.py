"""Signing in with an API key, which no page ever shows again, and signing out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from limits import RateLimitItemPerMinute

from services.api.console import sessions
from services.api.console.rendering import PLACES, is_part, page
from services.api.console.sessions import Anyone
from services.api.http.auth import Authenticator, ClientsDep
from services.api.infra.clients import Clients
from shared.errors import TooMany
from shared.security.api_keys import Unauthenticated

router = APIRouter()
HOME = "/console/"
WRONG_KEYS = RateLimitItemPerMinute(20, namespace="sign_in")
"""Wrong keys that one address may send."""


@router.get("/")
async def home(visitor: Anyone) -> RedirectResponse:
    """Go to the first page that the key opens."""
    first = next(place for place in PLACES if place.opens_to(visitor))
    return RedirectResponse(f"/console/{first.path}", 303)


@router.get("/sign-in")
async def form(request: Request, then: str = HOME) -> HTMLResponse:
    """Show the form."""
    return page(request, "sign_in.html", then=_own(then), wrong="")


@router.post("/sign-in")
async def sign_in(
    request: Request,
    clients: ClientsDep,
    key: Annotated[str, Form(max_length=200)],
    then: Annotated[str, Form()] = HOME,
) -> Response:
    """Begin a session; a page whose session has ended gets the new one's form token, and loses nothing."""
    sessions.check_same_site(request)
    authenticator = request.app.state.authenticator
    assert isinstance(authenticator, Authenticator)
    await _check_throttle(clients, request)
    try:
        found = await authenticator.key_of(key.strip())
    except Unauthenticated as error:
        await clients.quotas.limiter.hit(WRONG_KEYS, _address(request))
        if is_part(request):
            raise
        return page(request, "sign_in.html", then=_own(then), wrong=error.detail, status=error.status)
    token = await sessions.begin(clients, found)
    response: Response = (
        JSONResponse({"csrf": sessions.csrf_of(token)}) if is_part(request) else RedirectResponse(_own(then), 303)
    )
    sessions.set_cookie(request, response, token)
    return response


@router.post("/sign-out")
async def sign_out(request: Request, clients: ClientsDep, visitor: Anyone) -> RedirectResponse:  # noqa: ARG001
    """End the session."""
    await sessions.end(clients, request.cookies[sessions.COOKIE])
    response = RedirectResponse("/console/sign-in", 303)
    response.delete_cookie(sessions.COOKIE, path="/console")
    return response


def _own(path: str) -> str:
    """Return a path of the console; of anything else the first page."""
    return path if path.startswith("/console/") and "\\" not in path and "//" not in path else HOME


async def _check_throttle(clients: Clients, request: Request) -> None:
    if not await clients.quotas.limiter.test(WRONG_KEYS, _address(request)):
        raise TooMany(
            "too_many_sign_ins",
            "too many wrong keys came from this address; try again in a minute",
            retry_after_seconds=60,
        )


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
