"""One error tree: what went wrong, and whether the same call may succeed later."""

from collections.abc import Mapping
from typing import Any


class SignalboxError(Exception):
    """Base of every error of this package: a stable `code`, and a sentence that says what to do."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        request_id: str = "",
        body: Any = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        """HTTP status; None where no answer came."""
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        """What the server's log calls this request; empty where it named none."""
        self.body = body
        """The answer's JSON, with members that this version does not know."""


class ApiError(SignalboxError):
    """The API refused the request."""


class InvalidRequestError(ApiError):
    """The request is wrong and stays wrong: correct it before you send it again."""


class AuthenticationError(ApiError):
    """The API key is missing, unknown, expired or revoked."""


class PermissionDeniedError(ApiError):
    """The API key lacks the scope that this call needs."""


class NotFoundError(ApiError):
    """What was named does not exist, or belongs to another tenant."""


class ConflictError(ApiError):
    """The state has moved on: look again, then decide."""


class RateLimitError(ApiError):
    """A limit is reached; `retry_after_seconds` says when the call may succeed."""


class ServerError(ApiError):
    """The server failed, or a part that it needs does not answer."""


class Unreachable(SignalboxError):
    """No answer came: nothing listens there, or the connection broke or timed out."""


class WaitTimeout(SignalboxError):
    """The job did not end within the time that `wait` was given; it goes on."""


class JobFailed(SignalboxError):
    """The job ended without a result; `code` and `detail` are the job's own error."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitError,
}


def error_type(status: int) -> type[ApiError]:
    """The class of an answer's error."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
