"""A small HTTP client of the API for the command line: problem details become errors, streams become iterators."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from shared.errors import SignalboxError, Unavailable

PATIENCE_SECONDS = 60.0
RESUME_SECONDS = 0.2
FINAL_STATES = {"succeeded", "failed", "cancelled", "rejected"}


class ApiError(SignalboxError):
    """What the API refused, in its own words."""


class Client:
    """One API, one key; without a key it may ask how the API is."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(60, connect=5))

    def get(self, path: str, **params: Any) -> Any:
        """GET; answers the JSON."""
        return self._call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        """POST JSON (or `content`, `files`, `data`, `params`, `headers`)."""
        return self._call("POST", path, **({"json": body} if body is not None else {}), **more)

    def delete(self, path: str) -> Any:
        """DELETE; answers the JSON."""
        return self._call("DELETE", path)

    def readiness(self) -> dict[str, Any]:
        """What `/readyz` answers, be it yes or no."""
        try:
            answer: dict[str, Any] = self._http.get("/readyz").json()
        except (httpx.TransportError, json.JSONDecodeError) as error:
            raise self._unreachable() from error
        return answer

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events (type, data) up to the final state; a cut stream is resumed after its last event.

        Raises `ApiError`, and `Unavailable` where the API stays away for a minute.
        """
        last_id, failing_since = "", 0.0
        while True:
            try:
                for event_id, kind, data in self._stream(path, last_id):
                    last_id, failing_since = event_id or last_id, 0.0
                    yield kind, data
                    if kind == "state" and data.get("state") in FINAL_STATES:
                        return
            except (httpx.TransportError, ApiError) as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_SECONDS or not getattr(error, "retryable", True):
                    raise
            time.sleep(RESUME_SECONDS)  # between two connections, not a wait for something that could be observed

    def _stream(self, path: str, last_id: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        # The API sends a comment every few seconds, so a silent connection is a dead one.
        with self._http.stream("GET", path, headers=headers, timeout=httpx.Timeout(60, connect=5)) as stream:
            if stream.is_error:
                stream.read()
                raise _problem(stream)
            yield from _parse_events(stream.iter_lines())

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable() from error
        if response.is_error:
            raise _problem(response)
        return response.json() if response.content else None

    def _unreachable(self) -> Unavailable:
        return Unavailable(
            "api_unreachable", f"no API answers at {self._http.base_url}: run `signalbox up`, or set SIGNALBOX_API_URL"
        )


def _problem(response: httpx.Response) -> ApiError:
    try:
        body = response.json()
    except json.JSONDecodeError:
        body = {}
    error = ApiError(body.get("code", "http_error"), body.get("detail", f"HTTP {response.status_code}"))
    error.status = response.status_code
    error.retryable = bool(body.get("retryable"))
    return error


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = fields.get(name, "") + value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])
            fields = {}
