"""Error responses of the routes, as the OpenAPI document lists them."""

from typing import Any

from pydantic import BaseModel

from services.api.http.problems import MEDIA_TYPE


class Problem(BaseModel):
    """An error (RFC 9457): what went wrong, whether a retry can help, what to do next; some errors have more fields."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable; programs may compare it."""
    retryable: bool


_CONTENT = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
_KEYED = {
    401: "No key, or one that is unknown or revoked",
    403: "The key lacks the scope",
    413: "The body is larger than its limit",
    422: "The request is wrong: correct it before you send it again",
    429: "A limit is reached: retry after the time in Retry-After",
    503: "A needed service is unavailable: retry after the time in Retry-After",
}
_THINGS = _KEYED | {
    400: "The body cannot be parsed",
    404: "The named object does not exist, or belongs to another tenant",
    408: "The request came too slowly: send it again, an upload in parts",
    409: "The state has changed: read it again, then decide",
}


def _documented(texts: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text, "content": _CONTENT} for status, text in sorted(texts.items())}


PROBLEMS = _documented(_THINGS)
"""Errors of every route that requires a key."""
UNREADY = _documented({503: "Not ready: a needed service is unavailable"})
"""Errors of the routes for orchestrators."""
