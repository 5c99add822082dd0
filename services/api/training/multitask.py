"""Requests on several tasks that share an adapter, and the jobs that they build on."""

from services.api.jobs.schemas import RunsAfter
from shared.contracts.multitask import MultitaskPlan, MultitaskPropose, MultitaskTrain
from shared.registry import Registry
from shared.registry.ended import ended_result


class MultitaskPlanRequest(MultitaskPlan, RunsAfter):
    """`multitask.plan`; `after` names training jobs that must succeed first."""


class MultitaskTrainRequest(MultitaskTrain, RunsAfter):
    """`multitask.train`; `after` names training jobs that must succeed first."""


class MultitaskProposeRequest(MultitaskPropose, RunsAfter):
    """`multitask.propose`; `after` names training jobs that must succeed first."""


MultitaskRequest = MultitaskPlanRequest | MultitaskTrainRequest | MultitaskProposeRequest


def check_ended(registry: Registry, tenant_id: str, request: MultitaskRequest) -> None:
    """Raise `NotFound`, `Invalid` or `Conflict` where a job's result is not there that the request builds on.

    One that the request runs `after` has still to end. Blocking.
    """
    needed = {}
    if isinstance(request, MultitaskTrain):
        needed = {request.plan: "multitask.plan"}
    elif isinstance(request, MultitaskPropose):
        needed = {request.job: "multitask.train"}
    for job_id, kind in needed.items():
        if job_id and job_id not in request.after:
            ended_result(registry.ledger, tenant_id, job_id, kind)
