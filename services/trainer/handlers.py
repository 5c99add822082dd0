"""What the trainer does with a job: parse its body, run its kind, write down its result."""

from collections.abc import Callable
from typing import Any

import structlog
from pydantic import ValidationError

from services.trainer.context import AnyContext, TrainerClients, TrainingContext, forget_checkpoints
from services.trainer.jobs.adapter import train_adapter
from services.trainer.jobs.check import check_adapter_template
from services.trainer.jobs.clean import clean_corpus
from services.trainer.jobs.comparison import train_comparison
from services.trainer.jobs.compose import compose_adapters
from services.trainer.jobs.multitask import train_multitask
from services.trainer.jobs.multitask_plan import plan_tasks
from services.trainer.jobs.multitask_propose import propose_shared
from services.trainer.jobs.review import review_traffic
from services.trainer.jobs.selector import train_selector
from services.trainer.out_of_memory import explaining_memory
from shared.contracts.jobs import Job
from shared.contracts.training import TrainingBody, parse_training
from shared.errors import Invalid, SignalboxError, StaleAttempt
from shared.ledger import LedgerAway
from shared.worker.attempt import Attempt
from shared.worker.base_model import leave_to_its_base

log = structlog.get_logger()
JobRunner = Callable[[TrainingContext[Any]], dict[str, Any]]
_JOBS: dict[str, JobRunner] = {
    "adapter.train": train_adapter,
    "adapter.check": check_adapter_template,
    "adapter.compose": compose_adapters,
    "comparison.train": train_comparison,
    "corpus.clean": clean_corpus,
    "multitask.plan": plan_tasks,
    "multitask.train": train_multitask,
    "multitask.propose": propose_shared,
    "traffic.review": review_traffic,
}
"""What runs a kind; all others are trainings of a selector."""


def train(attempt: Attempt, clients: TrainerClients) -> None:
    """Run a training job to its end; its checkpoints go when it ends, and stay when its trainer is killed."""
    try:
        with explaining_memory("the job"):  # a training says so itself: here it is what judges its result
            body = _body(attempt.job)
            leave_to_its_base(attempt, body.base_model or clients.base_model, clients.base_model)
            result = run_kind(TrainingContext(attempt, body, clients.waiting(attempt.lease)))
    except SignalboxError as error:
        if isinstance(error, StaleAttempt | LedgerAway) or attempt.lease.reason in ("drain", "stale"):
            raise  # another attempt has the job, or will have it, and needs the checkpoints
        log.warning("job_failed", code=error.code, detail=error.detail)
        has_ended = attempt.fail(error)
    else:
        has_ended = attempt.succeed(result)
    if has_ended:
        forget_checkpoints(clients, attempt.job)


def run_kind(context: AnyContext) -> dict[str, Any]:
    """Run the job that the body's kind names; returns its result."""
    run: JobRunner = _JOBS.get(context.body.kind, train_selector)
    return run(context)


def _body(job: Job) -> TrainingBody:
    try:
        return parse_training(job.body)
    except ValidationError as error:
        raise Invalid(
            "training_malformed", f"the job's settings cannot be parsed ({error.errors()[0]['msg']}): submit it anew"
        ) from error
