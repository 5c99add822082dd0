"""The result of a training that another job builds on."""

from typing import Any

from shared.contracts.jobs import JobState
from shared.errors import Conflict, Invalid, NotFound
from shared.ledger import Ledger, calls


def ended_result(ledger: Ledger, tenant_id: str, job_id: str, kind: str) -> dict[str, Any]:
    """Return the result of a tenant's training of a kind.

    Raises `NotFound` for a job that is forgotten or another tenant's, `Invalid` for one of another kind, and `Conflict`
    for one that has not succeeded.
    """
    try:
        job = ledger.do(calls.get(job_id, tenant_id))
    except NotFound as error:
        raise NotFound(
            "job_not_found", f"there is no {kind} with the id {job_id}, or it was forgotten: run one, and name its id"
        ) from error
    if job.body.get("kind") != kind:
        raise Invalid("job_kind_wrong", f"job {job_id} is no {kind}: name one that is")
    if not job.state.is_final:
        raise Conflict("job_unfinished", f"{kind} {job_id} has not ended: wait for its end, or name it in `after` too")
    if job.state is not JobState.SUCCEEDED:
        raise Conflict("job_unsuccessful", f"{kind} {job_id} is {job.state}: run one that succeeds, and name its id")
    return dict(job.result or {})
