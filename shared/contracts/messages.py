"""The messages of the queues: each wakes one worker; the ledger decides which job that worker takes."""

from pydantic import BaseModel, ConfigDict


class JobMessage(BaseModel):
    """Wakes a worker, which takes the next job of the queue, whichever that is.

    A worker of an earlier version takes the job that the message names.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
    """The job that the message was sent for."""
