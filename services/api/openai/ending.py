"""How a job ended, as an answer or as the error that a client gets."""

from shared.contracts.generation import GenerationResult, generation_result
from shared.contracts.jobs import Job, JobState
from shared.errors import Conflict, Invalid, SignalboxError, Unavailable


class TooLate(SignalboxError):
    """The job passed its deadline."""

    status = 504


class Failed(SignalboxError):
    """The job ended without an answer, and would end so again."""

    status = 500


class Refused(Invalid):
    """The job ended because it cannot be answered; a known code says which of the request's fields is the cause."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.param = {"tools_not_rendered": "tools", "tool_calls_unreadable": "tools"}.get(code)


def answered(job: Job) -> GenerationResult:
    """Return the result of an ended job; raises the error that ended it, or the wait for it."""
    if not job.state.is_final:
        raise Unavailable("api_stopping", "the server is being stopped: ask again", retry_after_seconds=1)
    result = generation_result(job) if job.state is JobState.SUCCEEDED else None
    if result is None:
        raise _error_of(job)
    return result


def _error_of(job: Job) -> SignalboxError:
    told = job.error or {}
    code = told.get("code") or f"job_{job.state}"
    detail = told.get("detail") or f"job {job.id} was {job.state}; ask again"
    if job.state is JobState.REJECTED:
        return Invalid(code, detail)
    if job.state is JobState.CANCELLED:
        return Conflict(code, detail)
    if code == "deadline_exceeded":
        return TooLate(code, detail)
    if told.get("retryable"):
        return Unavailable(code, detail)
    return (Failed if code == "internal_error" else Refused)(code, detail)
