"""The tree of errors: what went wrong, whether a retry can help, and what the caller should do next."""

from typing import Any


class SignalboxError(Exception):
    """Base of every error that a caller may see: a stable `code`, a sentence, and an HTTP status."""

    status = 500
    retryable = False

    def __init__(self, code: str, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    @property
    def members(self) -> dict[str, Any]:
        """What a caller is told besides, as members of the problem."""
        return {}

    def as_fields(self) -> dict[str, Any]:
        """Return the form that a job stores."""
        return {"code": self.code, "detail": self.detail, "retryable": self.retryable}


class Invalid(SignalboxError):
    """The request or the data is wrong: correct it before you send it again."""

    status = 422


class NotFound(SignalboxError):
    """The named object does not exist, or belongs to another tenant."""

    status = 404


class Conflict(SignalboxError):
    """The state has changed: read it again, then decide."""

    status = 409


class Denied(SignalboxError):
    """The key is missing, unknown, or lacks the scope."""

    status = 403


class Unavailable(SignalboxError):
    """A needed service does not answer: the same call may succeed later."""

    status = 503
    retryable = True

    def __init__(self, code: str, detail: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(code, detail, retry_after_seconds=retry_after_seconds)


class ServiceAway(Unavailable):
    """What a process needs for every job does not answer: no job is the cause, so each returns to its queue."""


class TooMany(SignalboxError):
    """A limit on waiting or concurrent work is reached: the same call may succeed later."""

    status = 429
    retryable = True


class Cancelled(SignalboxError):
    """The job was cancelled, or had to stop, while it ran."""

    status = 409


class StaleAttempt(SignalboxError):
    """Another attempt owns the job now: stop the work and write nothing."""

    status = 409

    def __init__(self, job_id: str) -> None:
        super().__init__("stale_attempt", f"another attempt owns job {job_id} now; this one's writes are refused")
