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
    413: "The body is above its limit",
    422: "The request is wrong, and stays so until it is mended",
    429: "A limit is reached; Retry-After says when to come again",
    503: "A part that is needed is away; Retry-After says when to come again",
}
_THINGS = _KEYED | {
    400: "The body cannot be read",
    404: "There is no such thing, or it belongs to another tenant",
    409: "The state has moved on: look again, then decide",
}


def _documented(texts: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text, "content": _CONTENT} for status, text in sorted(texts.items())}


PROBLEMS = _documented(_THINGS)
"""Errors of every route that requires a key."""
UNREADY = _documented({503: "Not ready, or a part that is needed is away"})
"""Errors of the routes for orchestrators."""
