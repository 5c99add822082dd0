"""A small HTTP client of the API for the command line: problem details become errors, streams become iterators."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from shared.errors import SignalboxError, Unavailable

FINAL_STATES = {"succeeded", "failed", "cancelled", "rejected"}


class ApiError(SignalboxError):
    """What the API refused, in its own words."""


class Client:
    """One API, one key."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(60, connect=5)
        )

    def get(self, path: str, **params: Any) -> Any:
        """GET; answers the JSON."""
        return self._call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        """POST JSON (or `content`, `files`, `data`, `params`, `headers`)."""
        return self._call("POST", path, **({"json": body} if body is not None else {}), **more)

    def delete(self, path: str) -> Any:
        """DELETE; answers the JSON."""
        return self._call("DELETE", path)

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events (type, data) until the stream ends; a cut connection resumes after the last id."""
        last_id = ""
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with self._http.stream("GET", path, headers=headers, timeout=httpx.Timeout(None, connect=5)) as stream:
                    if stream.is_error:
                        stream.read()
                        raise _problem(stream)
                    for event_id, kind, data in _parse_events(stream.iter_lines()):
                        last_id = event_id or last_id
                        yield kind, data
                        if kind == "state" and data.get("state") in FINAL_STATES:
                            return
                return
            except httpx.RemoteProtocolError:
                continue

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unavailable(
                "api_unreachable",
                f"no API answers at {self._http.base_url}: run `signalbox up`, or set SIGNALBOX_API_URL",
            ) from error
        if response.is_error:
            raise _problem(response)
        return response.json() if response.content else None


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
