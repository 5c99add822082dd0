"""The messages of the queues: frozen, ids only; unknown fields are ignored, so that versions can run side by side."""

from pydantic import BaseModel, ConfigDict


class JobMessage(BaseModel):
    """Tells a worker to work on this job; the ledger holds the job's data."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
