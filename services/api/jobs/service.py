"""Operations on an existing job: cancel, replay, drop, give feedback."""

from services.api.infra.clients import Clients
from services.api.jobs.schemas import FeedbackRequest
from shared.contracts.generation import generation_result, select_body, selection_of
from shared.contracts.jobs import Job, JobKind, JobState
from shared.contracts.rows import Row
from shared.errors import Invalid
from shared.ledger import calls
from shared.security.api_keys import Key, Scope


async def find(clients: Clients, caller: Key, job_id: str) -> Job:
    """Return a job that the key may read; raises `NotFound`."""
    return await clients.ledger.do(calls.get(job_id, caller.tenant_id, caller.sees))


async def cancel(clients: Clients, caller: Key, job: Job) -> JobState:
    """Cancel a job and return its state; a running job ends within its next step. Raises `Denied`, `NotFound`."""
    if job.kind is JobKind.TRAIN:
        caller.check(Scope.TRAIN)
    return await clients.ledger.do(calls.cancel(job.id, caller.tenant_id))


async def replay(clients: Clients, caller: Key, job_id: str) -> None:
    """Restart a dead letter; raises `NotFound`."""
    clients.outbox.put(await clients.ledger.do(calls.replay(job_id, caller.tenant_id)))


async def drop(clients: Clients, caller: Key, job_id: str) -> None:
    """Drop a dead letter; raises `NotFound`."""
    await clients.ledger.do(calls.drop(job_id, caller.tenant_id))


async def give_feedback(clients: Clients, caller: Key, job_id: str, feedback: FeedbackRequest) -> None:
    """Store feedback and, from a reviewer, the data-set row made from it; raises `NotFound`, `Conflict`, `Invalid`."""
    is_review = caller.may(Scope.REVIEW)
    job = await clients.ledger.do(calls.get(job_id, caller.tenant_id, "" if is_review else caller.sees))
    row = feedback_row(job, feedback).model_dump(exclude_defaults=True) if is_review else None
    value = feedback.model_dump(mode="json", exclude_none=True) | {"key": caller.id}
    await clients.ledger.do(calls.feedback(job_id, caller.tenant_id, value, row))


def feedback_row(job: Job, feedback: FeedbackRequest) -> Row:
    """Return the data-set row for feedback: the job's text with the right label and output."""
    if job.kind is JobKind.TRAIN:
        raise Invalid("feedback_unsupported", "a training job has no answer to judge; give feedback on other jobs")
    body, selection = select_body(job), selection_of(job)
    label = job.label or (selection.label if selection else None)
    return Row(
        input=body.last_user_text,
        instruction=body.system_text,
        output=feedback.output or _if_right(feedback, _answer(job)),
        label=feedback.label or _if_right(feedback, label),
    )


def _answer(job: Job) -> str | None:
    result = generation_result(job) if job.kind is JobKind.GENERATE else None
    return result.text if result else None


def _if_right(feedback: FeedbackRequest, answer: str | None) -> str:
    """Return the system's answer where the rating is 1 (right), else an empty string."""
    return answer if feedback.rating == 1 and answer else ""
