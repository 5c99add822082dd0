"""Files that clients upload, and that batches write: what is known of one besides its content."""

import hashlib
import time
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Purpose(StrEnum):
    """What a file is for."""

    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    FINE_TUNE = "fine-tune"
    USER_DATA = "user_data"


class StoredFile(BaseModel):
    """The record of one file; times are seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant_id: str
    filename: str
    purpose: Purpose
    size_bytes: int
    sha256: str
    key: str = ""
    """Id of the API key that uploaded it, or whose batch wrote it."""
    key_line: str = ""
    """The line of that key; its keys own the file."""
    created_at: float = Field(default_factory=time.time)
    expires_at: int = 0
    """0 means never."""

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return 0 < self.expires_at <= time.time()


def file_id_of(*names: str) -> str:
    """Return the id that follows from names, so that whoever writes the same file again writes it under the same id."""
    return f"file-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:24]}"
