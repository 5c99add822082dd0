"""Requests before they are sent and answers after they came; nothing here reads or writes a socket."""

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from signalbox.errors import ApiError, SignalboxError, Unreachable, error_type

T = TypeVar("T")
IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_PAUSE_SECONDS = 60.0
"""Where the server asks for a longer pause, the error is raised at once."""
_FIRST_PAUSE_SECONDS = 0.5
_OF_PATHS = "/?&=%@:+,;~"
"""Signs that stay as they are in a path: an id that somebody mistyped may hold any other."""
_RETRYABLE_STATUSES = {429, 502, 503, 504}
_IN_FLIGHT = "idempotency_in_flight"
"""The server still works on the attempt before: its answer can be had shortly."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Request:
    """One HTTP request, relative to the API's address."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    data: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes]] | None = None
    timeout_seconds: float | None = None
    """For each read and write; None: the client's own."""
    is_binary: bool = False
    """Whether the answer is the bytes of a file."""
    accepted_status: int | None = None
    """An error status that is an answer like any other here."""

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        return self.method in ("GET", "DELETE") or IDEMPOTENCY_KEY in self.headers


@dataclass(frozen=True)
class Target:
    """The API that requests go to, and with which key."""

    base_url: str
    api_key: str
    timeout_seconds: float

    def arguments(self, request: Request) -> dict[str, Any]:
        """The request as httpx takes it."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        given = {"json": request.json, "content": request.content, "data": request.data, "files": request.files}
        return {
            "method": request.method,
            "url": self.base_url + quote(request.path, safe=_OF_PATHS),
            "params": {name: value for name, value in request.params.items() if value is not None},
            "headers": {**key, **request.headers},
            "timeout": httpx.Timeout(request.timeout_seconds or self.timeout_seconds, connect=5),
            **{name: value for name, value in given.items() if value is not None},
        }

    def unreachable(self, error: httpx.RequestError) -> Unreachable:
        """The error of an answer that did not come."""
        address = httpx.URL(self.base_url).copy_with(userinfo=b"")
        detail = f"no API answers at {address}: run `signalbox up`, or set SIGNALBOX_API_URL"
        found = Unreachable("api_unreachable", detail, retryable=True)
        found.__cause__ = error
        return found


def target_of(base_url: str | None, api_key: str | None, timeout_seconds: float) -> Target:
    """The API that is named, or that of the environment; raises `SignalboxError` where neither names one."""
    url = base_url or os.environ.get("SIGNALBOX_API_URL", "")
    key = api_key if api_key is not None else os.environ.get("SIGNALBOX_API_KEY", "")
    if not url:
        raise SignalboxError("api_url_missing", "name the API: Signalbox(base_url=…), or set SIGNALBOX_API_URL")
    if not _is_address(url):
        raise SignalboxError("api_url_malformed", "the API's address is none: write http://HOST:PORT, or https://HOST")
    if not (key.isascii() and key.isprintable()):
        raise SignalboxError(
            "api_key_malformed", "the API key holds what no key holds: copy it again, without line ends"
        )
    return Target(url.rstrip("/"), key, timeout_seconds)


def _is_address(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def made(client: type[T]) -> T:
    """A client of httpx, which reads proxies and certificates from the environment; raises `SignalboxError`."""
    try:
        return client()
    except (ValueError, OSError, ImportError, httpx.InvalidURL) as error:
        why = "a proxy or a certificate cannot be used: look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        raise SignalboxError("http_settings_invalid", why) from error


def answer(request: Request, response: httpx.Response) -> Any:
    """The JSON of an answer that was read, or its bytes, None where it is empty; raises `ApiError`."""
    if response.is_error and response.status_code != request.accepted_status:
        raise api_error(response)
    if not response.content:
        return None
    if request.is_binary:
        return response.content
    try:
        return response.json()
    except ValueError as error:
        raise not_of_the_api(str(response.url)) from error


def not_of_the_api(where: str) -> ApiError:
    """The error of an answer that this API does not give."""
    return ApiError(
        "answer_malformed", f"{where} answered what this API does not: check that the address is that of the API"
    )


def api_error(response: httpx.Response) -> ApiError:
    """The error of a refusal that was read, from its problem details where it has any (RFC 9457)."""
    status = response.status_code
    body = _json_object(response)
    return error_type(status)(
        str(body.get("code", f"http_{status}")),
        str(body.get("detail", f"the server answered HTTP {status}")),
        status=status,
        retryable=bool(body.get("retryable", status in _RETRYABLE_STATUSES)),
        retry_after_seconds=_retry_after(response.headers),
        request_id=response.headers.get("x-request-id") or str(body.get("instance", "")),
        body=body or None,
    )


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; None where the header is missing or a date, which this API never sends."""
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


def pause_before_retry(request: Request, error: SignalboxError, retries: int, max_retries: int) -> float:
    """Seconds to wait before the request is sent again, after so many retries; raises the error where it is not.

    A request that is not repeatable is sent again only where it cannot have arrived.
    """
    was_not_sent = isinstance(error, Unreachable) and isinstance(error.__cause__, _NOT_SENT)
    may_help = error.retryable or error.code == _IN_FLIGHT
    pause = max(error.retry_after_seconds or 0.0, _backoff(retries))
    if retries >= max_retries or not may_help or pause > MAX_PAUSE_SECONDS:
        raise error
    if not (request.is_repeatable or was_not_sent):
        raise error
    return pause


def _backoff(retries: int) -> float:
    """Doubles with each retry, up to 8 s; shortened by up to a quarter so that clients do not come back together."""
    return min(8.0, _FIRST_PAUSE_SECONDS * 2.0**retries) * random.uniform(0.75, 1.0)  # noqa: S311 - not a secret
