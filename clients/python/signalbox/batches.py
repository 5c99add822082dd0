"""Calls about batches: files of requests, answered in a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from signalbox.call import Call, given, new_key, posted
from signalbox.requests import IDEMPOTENCY_KEY, Request
from signalbox.results import Record
from signalbox.uploads import UPLOAD_SECONDS

CHATS = "/v1/chat/completions"
ENDED_BATCHES = frozenset({"failed", "completed", "expired", "cancelled"})
_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class File(Record):
    """A file that was uploaded, or that a batch wrote."""

    id: str
    filename: str = ""
    purpose: str = ""
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch(Record):
    """A batch, in OpenAI's form."""

    id: str
    status: str = ""
    endpoint: str = ""
    input_file_id: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: dict[str, int] = field(default_factory=dict)
    errors: dict[str, Any] | None = None

    @property
    def is_final(self) -> bool:
        """Whether the batch can still change."""
        return self.status in ENDED_BATCHES


def upload_file(content: bytes, name: str, *, purpose: str = "batch", idempotency_key: str | None = None) -> Call[File]:
    """Upload a file; of the purpose `batch` it holds one request a line, in OpenAI's form."""
    request = Request(
        "POST",
        "/v1/files",
        headers={IDEMPOTENCY_KEY: idempotency_key or new_key()},
        data={"purpose": purpose},
        files={"file": (name, content)},
        timeout_seconds=UPLOAD_SECONDS,
    )
    return Call(request, File.from_dict)


def file_content(file_id: str) -> Call[bytes]:
    """The content of a file."""
    request = Request("GET", f"/v1/files/{file_id}/content", is_binary=True, timeout_seconds=UPLOAD_SECONDS)
    return Call(request, lambda content: content or b"")


def create_batch(
    file_id: str,
    *,
    endpoint: str = CHATS,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Call[Batch]:
    """Answer every request of a file within a day."""
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", "metadata": metadata}
    return Call(posted("/v1/batches", given(body), idempotency_key), Batch.from_dict)


def batch(batch_id: str) -> Call[Batch]:
    """A batch as it is now."""
    return Call(Request("GET", f"/v1/batches/{batch_id}"), Batch.from_dict)


def batches(*, after: str = "", limit: int = 20) -> Call[list[Batch]]:
    """Batches, newest first, those after the one that is named."""
    params = {"limit": min(limit, _LISTED)} | ({"after": after} if after else {})
    request = Request("GET", "/v1/batches", params=params)
    return Call(request, lambda raw: [Batch.from_dict(one) for one in raw["data"]])


def cancel_batch(batch_id: str) -> Call[Batch]:
    """Cancel a batch; what is done is delivered. Sent again it does the same."""
    return Call(posted(f"/v1/batches/{batch_id}/cancel", None, None), Batch.from_dict)
