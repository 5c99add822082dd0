"""Requests and answers about forgetting somebody."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.api.jobs.schemas import Request, UserHash, UserId


class ForgetRequest(Request):
    """Whom to forget, by one of five names; in a body, since proxies log addresses."""

    user: UserId | None = None
    """Id of the caller's own user, as requests name it."""
    user_hash: UserHash | None = None
    """The hash that is kept in its place, as jobs show it."""
    key: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Id of an API key: what all keys of its line sent."""
    conversation_id: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """The name of a conversation in `metadata`."""
    job_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Id of a single job."""
    dry_run: bool = False
    """Whether to count only, and to tell the hash that `GET /v1/jobs?user=` takes."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        names = (self.user, self.user_hash, self.key, self.conversation_id, self.job_id)
        if sum(name is not None for name in names) != 1:
            raise ValueError("give one of user, user_hash, key, conversation_id and job_id")
        return self


class HeldRows(BaseModel):
    """A data set made of feedback or of the traffic log that holds rows of whoever is forgotten; it never changes."""

    id: str
    created_at: str
    rows: int


class Forgotten(BaseModel):
    """What went, or would go."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    user: str | None = None
    """The user's hash."""
    key: str | None = None
    conversation_id: str | None = None
    job_id: str | None = None
    dry_run: bool
    forgotten: int
    """Ended jobs, with texts, answers and events."""
    cancelled: int
    """Jobs that had not ended; each goes within seconds of its end."""
    feedback: int
    """Rows of the data set `feedback`."""
    traffic: int = 0
    """Rows of the traffic log."""
    files: int = 0
    """Only of a key: nothing else says whose a file is."""
    batches: int = 0
    """Only of a key: ended batches, with the copies of their inputs."""
    open_batches: int = 0
    """Batches that were told to end and write files until then: forget once more when they have ended."""
    datasets: list[HeldRows] = []
    """What is left: delete it by `signalbox datasets rm ID`, and train anew what was trained on it."""
