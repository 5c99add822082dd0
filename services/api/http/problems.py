"""Errors as RFC 9457 problem details: what went wrong, whether a retry can help, what to do next.

At the paths that are OpenAI's an error has that form, too (`services/api/http/envelope.py`).
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from services.api.http import envelope
from services.api.http.security_headers import SECURITY_HEADERS
from shared.contracts.json_objects import RepeatedKey
from shared.errors import Invalid, NotFound, SignalboxError, Unavailable

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
PROBLEM = "problem"
"""Key of the request's scope under which the response's error code stands; the outer middleware counts it."""
_TITLES = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "Invalid request",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Temporarily unavailable",
}
_HINTS = {
    "extra_forbidden": "this field is not known; remove it",
    "missing": "this field is required; add it",
    "model_attributes_type": "send a JSON object, with the header Content-Type: application/json",
    "string_unicode": "this is not valid Unicode text; send UTF-8",
}
MAX_FIELDS_SHOWN = 10


class Malformed(SignalboxError):
    """The body cannot be parsed."""

    status = 400


class TooLarge(SignalboxError):
    """The body is larger than its limit."""

    status = 413


class WrongMethod(SignalboxError):
    """The path does not take the method."""

    status = 405


class HeaderTooLarge(SignalboxError):
    """The head of a request, or the lines after its body, are longer than their limit."""

    status = 431


class TooSlow(SignalboxError):
    """The request did not arrive in time."""

    status = 408
    retryable = True


class Crashed(SignalboxError):
    """Nothing expected this error: its cause stands in the log under `instance`."""

    def __init__(self) -> None:
        self.instance = f"urn:uuid:{uuid.uuid4()}"
        super().__init__("internal_error", f"the server failed on this request; look for {self.instance} in its log")

    @property
    def members(self) -> dict[str, Any]:
        """What a caller is told besides, as members of the problem."""
        return {"instance": self.instance}


def problem(error: SignalboxError, **more: Any) -> dict[str, Any]:
    """Return the members of a problem: the standard ones, `code`, `retryable`, and `more`."""
    return {
        "type": f"urn:signalbox:problem:{error.code}",
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        **error.members,
        **more,
    }


def problem_headers(error: SignalboxError) -> dict[str, str]:
    """Return `Retry-After` where a retry can help, and `WWW-Authenticate` where a key is missing."""
    headers: dict[str, str] = {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_seconds or 5)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


class ProblemResponse(JSONResponse):
    """A response that describes an error; at OpenAI's paths also in OpenAI's form."""

    media_type = MEDIA_TYPE

    def __init__(self, error: SignalboxError, headers: Mapping[str, str], **more: Any) -> None:
        self._error, self._more = error, more
        super().__init__(problem(error, **more), error.status, {**headers, **problem_headers(error)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        scope[PROBLEM] = self._error.code
        if envelope.is_spoken(scope["path"], self._error.code):
            self._speak()
        await super().__call__(scope, receive, send)

    def _speak(self) -> None:
        """Add what OpenAI's clients read."""
        self.status_code = envelope.status_of(self._error)
        spoken = envelope.envelope(self._error, self._more.get("errors", ()))
        self.body = self.render(problem(self._error, **self._more) | {"status": self.status_code} | spoken)
        self.headers["Content-Length"] = str(len(self.body))
        self.headers.update(envelope.headers_of(self._error))


def respond(error: SignalboxError, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return the response that describes an error."""
    return ProblemResponse(error, headers or {}, **more)


def as_unavailable(error: redis.RedisError) -> Unavailable | None:
    """Return the error to show to a caller; None where the Redis error is a bug in this program."""
    if isinstance(error, redis.exceptions.OutOfMemoryError) or str(error).startswith(("MISCONF", "NOREPLICAS")):
        return Unavailable("ledger_full", "the job ledger (Redis) takes no writes (memory or disk is full)")
    gone = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
    if isinstance(error, gone):
        return Unavailable("ledger_unavailable", "the job ledger (Redis) does not answer; try again shortly")
    return None


def _on_signalbox_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SignalboxError)
    if error.status >= 500:
        log.warning("request_failed", code=error.code, detail=error.detail)
    return respond(error)


def _on_redis_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, redis.RedisError)
    known = as_unavailable(error)
    return _on_signalbox_error(request, known) if known else _on_unexpected(request, error)


def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        why = f"{found[0]['ctx']['error']} at character {found[0]['loc'][-1]}"
        return respond(Malformed("json_malformed", f"the body is not JSON: {why}; mend it and send it again"))
    fields = fields_of(found)
    detail = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    code = "kind_unsupported" if found and found[0]["type"].startswith("union_tag") else "request_invalid"
    return respond(Invalid(code, detail), errors=fields)


def fields_of(found: Sequence[Any]) -> list[dict[str, str]]:
    """Return the first wrong fields of a request, each with what is wrong with it."""
    return [_field(error) for error in found[:MAX_FIELDS_SHOWN]]


def _field(error: Mapping[str, Any]) -> dict[str, str]:
    kind = error["type"]
    # The message omits the value: it may be huge, secret, or binary.
    path = ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0])
    return {"field": path[:200], "message": _HINTS.get(kind, error["msg"])[:400], "code": kind}


def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return respond(of_framework(error), error.headers)


def of_framework(error: HTTPException) -> SignalboxError:
    """Return what the framework refuses as an error of ours."""
    match error.status_code:
        case 400:
            return _unreadable(error)
        case 404:
            return NotFound("path_not_found", "there is nothing at this path; look at /docs, which lists what there is")
        case 405:
            return WrongMethod(
                "method_not_allowed", "this path does not take this method; take one of the Allow header"
            )
        case 413:
            return TooLarge("body_too_large", "the body is above the limit; send less, or in several requests")
    known = SignalboxError(f"http_{error.status_code}", str(error.detail))
    known.status = error.status_code
    return known


def _on_disconnect(_: Request, __: Exception) -> JSONResponse:
    """Answer nobody: the client has gone, and its request is no fault of this program."""
    return respond(Malformed("body_cut", "the connection ended before the body did; send it again"))


def _unreadable(error: HTTPException) -> Malformed:
    if isinstance(error.__cause__, UnicodeDecodeError):
        return Malformed("not_utf8", f"the body is not UTF-8 at byte {error.__cause__.start}; encode it as UTF-8")
    if isinstance(error.__cause__, RepeatedKey):
        return Malformed("json_malformed", f"the body's JSON is ambiguous: {error.__cause__}")
    return Malformed("body_malformed", f"the body cannot be read ({error.detail}); check its form and its Content-Type")


def crash(error: Exception) -> Crashed:
    """Log an error that nothing expected; returns what its caller is told."""
    crashed = Crashed()
    log.error("request_crashed", instance=crashed.instance, exc_info=error)
    return crashed


def _on_unexpected(_: Request, error: Exception) -> JSONResponse:
    # The framework sends this response outside of all middleware, so the security headers are added here.
    return respond(crash(error), SECURITY_HEADERS)


def install(app: FastAPI) -> None:
    """Let the application answer every error as a problem."""
    app.add_exception_handler(SignalboxError, _on_signalbox_error)
    app.add_exception_handler(redis.RedisError, _on_redis_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)
