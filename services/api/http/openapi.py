"""What a route may answer beside success, as the OpenAPI page tells it."""

from typing import Any

from pydantic import BaseModel

from services.api.http.problems import MEDIA_TYPE


class Problem(BaseModel):
    """What went wrong (RFC 9457), whether a retry can help, and what to do next; some kinds have more members."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable, for programs."""
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
"""Of every route that asks for a key."""
UNREADY = _documented({503: "Not ready, or a part that is needed is away"})
"""Of the routes for supervisors."""
