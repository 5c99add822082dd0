"""Errors as OpenAI's clients read them, on the paths that are OpenAI's."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import SignalboxError

_PATHS = ("/v1/chat/", "/v1/completions", "/v1/models", "/v1/files", "/v1/batches")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {"key_missing": "invalid_api_key", "key_unknown": "invalid_api_key"}
NO_PATH = "path_not_found"


def is_spoken(path: str, code: str) -> bool:
    """Whether an error at this path is told in OpenAI's form; it also covers paths under `/v1` that do not exist."""
    return path.startswith(_PATHS) or (code == NO_PATH and path.startswith("/v1/"))


def status_of(error: SignalboxError) -> int:
    """Return the status that OpenAI's clients expect: what is wrong with a request is 400."""
    return 400 if error.status == 422 else error.status


def envelope(error: SignalboxError, fields: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Return the member `error`: a sentence, the kind of error, the field that it is about, and a stable code."""
    return {
        "error": {
            "message": error.detail,
            "type": _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error"),
            "param": fields[0]["field"] if fields else getattr(error, "param", None),
            "code": _CODES.get(error.code, error.code),
        }
    }


def headers_of(error: SignalboxError) -> dict[str, str]:
    """Return the headers by which OpenAI's clients name the request, and decide whether they send it again."""
    return {"x-request-id": f"req_{secrets.token_hex(12)}", "x-should-retry": "true" if error.retryable else "false"}
