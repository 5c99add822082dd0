"""Client of Signalbox: `Signalbox` for plain programs, `AsyncSignalbox` for asyncio."""

from signalbox.async_client import AsyncSignalbox
from signalbox.batches import Batch, File
from signalbox.chat_results import Chat, ChatChunk, ToolCall
from signalbox.client import Signalbox
from signalbox.corpora import Corpus
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
from signalbox.estimate import TrainingEstimate
from signalbox.evaluation import Evaluation
from signalbox.feedback import ConflictPage, LabelConflict, LabelSaid
from signalbox.proposals import AuditEntry, AuditPage, Proposal
from signalbox.rebases import Rebase, RebasePlan
from signalbox.results import (
    Adapter,
    Alias,
    Answer,
    BaseModel,
    Dataset,
    DatasetCheck,
    Delivery,
    Event,
    Job,
    Model,
    Page,
    Release,
    Selection,
    Template,
    Webhook,
)
from signalbox.rollouts import Rollout
from signalbox.traffic import TrafficHour, TrafficPage, TrafficRow
from signalbox.usage import Usage

__all__ = [
    "Adapter",
    "Alias",
    "Answer",
    "ApiError",
    "AsyncSignalbox",
    "AuditEntry",
    "AuditPage",
    "AuthenticationError",
    "BaseModel",
    "Batch",
    "Chat",
    "ChatChunk",
    "ConflictError",
    "ConflictPage",
    "Corpus",
    "Dataset",
    "DatasetCheck",
    "Delivery",
    "Evaluation",
    "Event",
    "File",
    "InvalidRequestError",
    "Job",
    "JobFailed",
    "LabelConflict",
    "LabelSaid",
    "Model",
    "NotFoundError",
    "Page",
    "PermissionDeniedError",
    "Proposal",
    "RateLimitError",
    "Rebase",
    "RebasePlan",
    "Release",
    "Rollout",
    "Selection",
    "ServerError",
    "Signalbox",
    "SignalboxError",
    "Template",
    "ToolCall",
    "TrafficHour",
    "TrafficPage",
    "TrafficRow",
    "TrainingEstimate",
    "Unreachable",
    "Usage",
    "WaitTimeout",
    "Webhook",
]
