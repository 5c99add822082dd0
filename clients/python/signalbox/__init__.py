"""Client of Signalbox: `Signalbox` for plain programs, `AsyncSignalbox` for asyncio."""

from signalbox.async_client import AsyncSignalbox
from signalbox.client import Signalbox
from signalbox.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    JobFailed,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SignalboxError,
    Unreachable,
    WaitTimeout,
)
from signalbox.results import (
    Adapter,
    Answer,
    Dataset,
    Event,
    Job,
    Model,
    Page,
    Release,
    Selection,
    Template,
    TrainingEstimate,
)

__all__ = [
    "Adapter",
    "Answer",
    "ApiError",
    "AsyncSignalbox",
    "AuthenticationError",
    "ConflictError",
    "Dataset",
    "Event",
    "InvalidRequestError",
    "Job",
    "JobFailed",
    "Model",
    "NotFoundError",
    "Page",
    "PermissionDeniedError",
    "RateLimitError",
    "Release",
    "Selection",
    "ServerError",
    "Signalbox",
    "SignalboxError",
    "Template",
    "TrainingEstimate",
    "Unreachable",
    "WaitTimeout",
]
