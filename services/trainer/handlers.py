"""What the trainer does with a job: read its body, do its kind, write what came of it."""

from typing import Any

from pydantic import ValidationError

from services.trainer.adapter_jobs import train_adapter
from services.trainer.selector_jobs import add_labels, train_selector
from services.trainer.workshop import Workshop
from shared.attempts import Held
from shared.errors import Invalid
from shared.jobs import Job, JobState
from shared.ledger import calls
from shared.training import AdapterTrain, SelectorTrain, TrainingBody, parse_training


def train(job: Job, held: Held, workshop: Workshop) -> None:
    """Run a training job to its end; its checkpoints go when it ends, and stay when its trainer is killed."""
    result = run_kind(job, held, _body(job), workshop)
    workshop.events.flush()
    workshop.attempts.end(calls.finish(job, JobState.SUCCEEDED, result=result))
    workshop.checkpoints(job).drop()


def run_kind(job: Job, held: Held, body: TrainingBody, workshop: Workshop) -> dict[str, Any]:
    """Do what the body's kind says."""
    if isinstance(body, AdapterTrain):
        return train_adapter(job, held, body, workshop)
    if isinstance(body, SelectorTrain):
        return train_selector(job, held, body, workshop)
    return add_labels(job, held, body, workshop)


def _body(job: Job) -> TrainingBody:
    try:
        return parse_training(job.body)
    except ValidationError as error:
        raise Invalid("training_malformed", f"the job's settings do not read: {error.errors()[0]['msg']}") from error
