"""The form of an upload, and a file as OpenAI's clients read it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.files import StoredFile

DAY_SECONDS = 86_400
MAX_EXPIRY_SECONDS = 30 * DAY_SECONDS
ExpirySeconds = Annotated[int, Field(ge=3600, le=MAX_EXPIRY_SECONDS)]


class FileForm(BaseModel):
    """The form fields that accompany a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: Literal["batch", "fine-tune", "user_data"]
    anchor: Annotated[Literal["created_at"] | None, Field(alias="expires_after[anchor]")] = None
    seconds: Annotated[ExpirySeconds | None, Field(alias="expires_after[seconds]")] = None
    """How long the file is kept; by default 30 days for the purpose `batch`, others until they are deleted."""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.anchor is None) != (self.seconds is None):
            raise ValueError("expires_after has an anchor (created_at) and seconds: give both, or neither")
        return self

    @property
    def kept_seconds(self) -> int:
        """How long the file is kept; 0 means until it is deleted."""
        return self.seconds or (MAX_EXPIRY_SECONDS if self.purpose == "batch" else 0)


class FileView(BaseModel):
    """A file in OpenAI's format; times are seconds since 1970."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: StoredFile) -> Self:
        """Return the view of a file."""
        return cls(
            id=file.id,
            bytes=file.size_bytes,
            created_at=int(file.created_at),
            expires_at=file.expires_at or None,
            filename=file.filename,
            purpose=file.purpose,
        )


class FilePage(BaseModel):
    """A page of files."""

    object: Literal["list"]
    data: list[FileView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """A file that is no more."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
