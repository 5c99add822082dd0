"""Fine-tuning jobs, their events and checkpoints as OpenAI's clients read them."""

import json
import time
from collections.abc import Mapping
from typing import Any

from shared.contracts.fine_tuning import FineTuning
from shared.contracts.jobs import JobState, ListedJob
from shared.contracts.training_settings import LoraSettings

View = dict[str, Any]
_STATUS = {JobState.QUEUED: "queued", JobState.RUNNING: "running"}
"""Of states that have another name here; files are validated before a job is accepted."""
_SAID = {
    "queued": "The job is queued",
    "running": "The job is running",
    "succeeded": "The job has succeeded",
    "failed": "The job has failed",
    "cancelled": "The job was cancelled",
}
_STAGES = {
    "data_checked": "The rows were looked through",
    "estimate": "The training is estimated",
    "memory": "What the training takes of its card is computed",
    "checkpoint": "A checkpoint is stored",
    "resuming": "The training goes on from a checkpoint",
    "evaluating": "The adapter answers rows that it was not trained on",
}


def job_view(job: ListedJob) -> View:
    """Return a job in OpenAI's form; `signalbox` holds what has no place there."""
    body, result = job.body or {}, job.result or {}
    asked = FineTuning.model_validate(body["fine_tuning"])
    settings = LoraSettings.model_validate(body["settings"])
    given = asked.hyperparameters.model_dump()
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(min(job.timestamps.values()) / 1000),
        "finished_at": _ended(job),
        "estimated_finish": _estimated(job),
        "model": asked.model,
        "fine_tuned_model": result.get("ref"),
        "organization_id": job.tenant_id,
        "status": _STATUS.get(job.state, str(job.state)),
        "error": _error(job),
        "hyperparameters": given,
        "method": {"type": "supervised", "supervised": {"hyperparameters": given}},
        "training_file": asked.training_file,
        "validation_file": asked.validation_file,
        "result_files": result.get("result_files", []),
        "trained_tokens": result.get("trained_tokens"),
        "seed": settings.seed,
        "metadata": asked.metadata,
        "integrations": [],
        "signalbox": {
            "label": body["label"],
            "selector_job": asked.selector_job or None,
            **{name: result[name] for name in _MEASURED if name in result},
        },
    }


_MEASURED = ("validation_rows", "validation_loss", "adapter_exact_match", "base_exact_match", "warnings")
"""What a result says of rows that were not trained on."""


def event_view(event_id: str, fields: Mapping[str, str]) -> View:
    """Return an event in OpenAI's form; steps are metrics."""
    data = json.loads(fields["data"])
    is_step = fields["type"] == "progress" and data.get("stage") == "training"
    failed = data.get("error") or {}
    return {
        "id": f"ftevent-{event_id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event_id.partition("-")[0]) // 1000,
        "level": "error" if data.get("state") == "failed" else "warn" if fields["type"] == "restart" else "info",
        "message": _message(fields["type"], data) + (f": {failed['detail']}" if failed else ""),
        "type": "metrics" if is_step else "message",
        "data": _metrics(data) if is_step else data,
    }


def checkpoint_view(job: ListedJob) -> list[View]:
    """Return the one checkpoint that can be asked for: the adapter that the job made, once it has."""
    result = job.result or {}
    if job.state is not JobState.SUCCEEDED or "ref" not in result:
        return []
    return [
        {
            "id": f"ftckpt-{result['adapter'][:24]}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": _ended(job),
            "fine_tuned_model_checkpoint": result["ref"],
            "fine_tuning_job_id": job.id,
            "step_number": result.get("steps", 0),
            "metrics": {
                "step": result.get("steps", 0),
                "train_loss": result.get("train_loss"),
                "full_valid_loss": result.get("validation_loss"),
            },
        }
    ]


def _message(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "state":
        return _SAID.get(data["state"], str(data["state"]))
    if kind == "restart":
        return "Its trainer was lost; another one goes on"
    if data.get("stage") == "training":
        return f"Step {data['step']}/{data['steps']}: training loss={data['loss']:.4f}"
    stage = str(data.get("stage", kind))
    return _STAGES.get(stage, stage)


def _metrics(data: Mapping[str, Any]) -> View:
    return {
        "step": data["step"],
        "total_steps": data["steps"],
        "train_loss": data["loss"],
        "learning_rate": data["learning_rate"],
    }


def _error(job: ListedJob) -> View | None:
    if not job.error:
        return None
    return {"code": job.error["code"], "message": job.error["detail"], "param": None}


def _ended(job: ListedJob) -> int | None:
    return int(job.timestamps[job.state] / 1000) if job.state.is_final else None


def _estimated(job: ListedJob) -> int | None:
    left = (job.progress or {}).get("seconds_left")
    return int(time.time() + left) if left is not None and job.state is JobState.RUNNING else None
