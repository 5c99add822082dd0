"""What travels over a queue: frozen, ids only, unknown fields ignored so that old and new versions run side by side."""

from pydantic import BaseModel, ConfigDict


class JobMessage(BaseModel):
    """Work on this job; everything about it is in the ledger."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
