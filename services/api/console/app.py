"""The console as an application of its own under `/console`: its pages, and errors as pages.

It calls what the API's routes call, with the rights of the key that signed in.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.console import assets, sign_in
from services.api.console.board import Looks
from services.api.console.holdings import Traffics
from services.api.console.pages import (
    adapters,
    batches,
    dead,
    forget,
    inbox,
    jobs,
    keys,
    live,
    playground,
    proposals,
    rebases,
    releases,
    rollouts,
    training,
    why,
)
from services.api.console.rendering import is_part, page
from services.api.http.problems import PROBLEM, as_unavailable, crash, fields_of, of_framework, problem_headers
from services.api.http.upload import FORM_BYTES
from shared.errors import Invalid, SignalboxError
from shared.security.api_keys import Unauthenticated
from shared.settings import Settings

log = structlog.get_logger()
PATH = "/console"
_SILENT = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
"""The application that this one is a part of records its requests."""
_PAGES = (
    live,
    playground,
    jobs,
    why,
    inbox,
    adapters,
    releases,
    rollouts,
    proposals,
    training,
    rebases,
    batches,
    dead,
    keys,
    forget,
)


def create_console(settings: Settings, state: State) -> FastAPI:
    """Return the console, with the state of the application that it is a part of."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, telemetry=_SILENT)  # type: ignore[arg-type]
    app.state = state
    app.state.looks = Looks()
    app.state.traffics = Traffics()
    app.include_router(assets.router)
    app.include_router(sign_in.router, max_body_size=settings.max_body_bytes)
    for one in _PAGES:
        app.include_router(one.router, max_body_size=settings.max_body_bytes)
    app.include_router(adapters.uploads, max_body_size=settings.max_upload_bytes + FORM_BYTES)
    app.add_exception_handler(SignalboxError, _on_signalbox_error)
    app.add_exception_handler(redis.RedisError, _on_redis_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(CatchCrashes)
    return app


class CatchCrashes:
    """The console's outermost middleware: an error that nothing expected is a page or a notice, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; where it fails before it is answered, answer it."""
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if began:
                raise
            answer = _on_signalbox_error(Request(scope), crash(error))
            await answer(scope, receive, send)


def _on_signalbox_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignalboxError)
    request.scope[PROBLEM] = error.code
    if isinstance(error, Unauthenticated) and not is_part(request):
        return RedirectResponse(f"/console/sign-in?then={quote(_with_query(request))}", 303)
    return _problem(request, error, problem_headers(error))


def _on_redis_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, redis.RedisError)
    known = as_unavailable(error)
    if known is None:
        raise error
    return _on_signalbox_error(request, known)


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = "; ".join(f"{field['field']}: {field['message']}" for field in fields_of(error.errors()))
    return _on_signalbox_error(request, Invalid("request_invalid", fields))


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _on_signalbox_error(request, of_framework(error))


def _problem(request: Request, error: SignalboxError, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Return what went wrong and what to do, as a page, or as a notice on the page that asked."""
    shown: dict[str, Any] = {"error": error}
    response = page(request, "notice.html" if is_part(request) else "problem.html", status=error.status, **shown)
    response.headers.update(headers or {})
    return response


def _with_query(request: Request) -> str:
    """Return where a visitor wanted to go: after a form, to the page that it stands on."""
    if request.method != "GET":
        return "/console/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
