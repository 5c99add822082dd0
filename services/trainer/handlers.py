"""What the trainer does with a job: read its body, do its kind, write what came of it."""

from typing import Any

import structlog
from pydantic import ValidationError

from services.trainer.context import TrainingContext
from services.trainer.jobs.adapter import train_adapter
from services.trainer.jobs.comparison import train_comparison
from services.trainer.jobs.selector import make_release
from shared.contracts.jobs import Job
from shared.contracts.training import AdapterTrain, ComparisonTrain, TrainingBody, parse_training
from shared.errors import Invalid, SignalboxError, StaleAttempt
from shared.ledger import LedgerAway
from shared.worker.attempt import Attempt
from shared.worker.leases import HeldJob

log = structlog.get_logger()


def train(attempt: Attempt, context: TrainingContext) -> None:
    """Run a training job to its end; its checkpoints go when it ends, and stay when its trainer is killed."""
    job, held = attempt.job, attempt.lease
    try:
        result = run_kind(job, held, _body(job), context.waiting(held))
    except SignalboxError as error:
        if isinstance(error, StaleAttempt | LedgerAway) or held.reason in ("drain", "stale"):
            raise  # another attempt has the job, or will have it, and needs the checkpoints
        log.warning("job_failed", code=error.code, detail=error.detail)
        has_ended = attempt.fail(error)
    else:
        has_ended = attempt.succeed(result)
    if has_ended:
        context.forget_checkpoints(job)


def run_kind(job: Job, held: HeldJob, body: TrainingBody, context: TrainingContext) -> dict[str, Any]:
    """Do what the body's kind says."""
    if isinstance(body, AdapterTrain):
        return train_adapter(job, held, body, context)
    if isinstance(body, ComparisonTrain):
        return train_comparison(job, held, body, context)
    return make_release(job, held, body, context)


def _body(job: Job) -> TrainingBody:
    try:
        return parse_training(job.body)
    except ValidationError as error:
        raise Invalid("training_malformed", f"the job's settings do not read: {error.errors()[0]['msg']}") from error
