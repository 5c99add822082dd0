"""The rows of data sets, their canonical form, and the ids and names of data sets; `shared/data_files` reads files."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.labels import LabelText
from shared.contracts.turns import MAX_TURNS, Turn, last_text
from shared.errors import Invalid

MAX_NAME_CHARS = 64
MAX_ROWS = 1_000_000
_NAME = re.compile(rf"[a-z0-9][a-z0-9_.-]{{0,{MAX_NAME_CHARS - 1}}}")
_TOLD_BY_MESSAGES = {"instruction", "input", "output"}


class Row(BaseModel):
    """One example; each kind of training job checks the fields that it needs."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    input: str = Field(min_length=1, max_length=100_000)
    instruction: str = Field(default="", max_length=20_000)
    output: str = Field(default="", max_length=20_000)
    label: LabelText = Field(default="", max_length=65)
    messages: tuple[Turn, ...] = Field(default=(), max_length=MAX_TURNS)
    """A conversation of several turns: its system turn is the `instruction`, its last user turn the `input`, and the
    assistant's turn after that the `output`, empty where it ends with the user."""

    @model_validator(mode="before")
    @classmethod
    def _as_its_messages_say(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or not fields.get("messages"):
            return fields
        turns = [turn if isinstance(turn, Turn) else Turn.model_validate(turn) for turn in fields["messages"]]
        answered = turns[-1].role == "assistant"
        told = {
            "instruction": turns[0].content if turns[0].role == "system" else "",
            "input": last_text(turns, "user"),
            "output": turns[-1].content if answered else "",
        }
        return {**fields, **told, "messages": tuple(turns)}

    @property
    def text(self) -> str:
        """All that a model reads of it."""
        if self.messages:
            return "\n".join(turn.content for turn in self.messages)
        return f"{self.instruction}{self.input}{self.output}"

    @property
    def question(self) -> str:
        """All that comes before its answer."""
        if self.messages:
            turns = self.messages[:-1] if self.output else self.messages
            return "\n".join(turn.content for turn in turns)
        return f"{self.instruction}\n{self.input}".strip()


class RowSource(BaseModel):
    """Where a row made from feedback comes from: whose job it is, who said what stands in the row, and when."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: str = ""
    said_by: tuple[str, ...] = ()
    """Ids of API keys."""
    at: str = ""
    """ISO 8601, of the last of it."""
    line: str = ""
    """The line of keys that own the job."""
    user: str = ""
    """Hash of the user that the job named."""
    conversation: str = ""
    """Hash of the conversation that the job named, among those of its line."""
    reviewed: bool = False
    """Whether a key of the scope `review` gave or accepted it; sources from before this was noted do not say so."""
    agreed: int = 0
    """How many keys said the same, of each field that stands in the row, at least."""

    @classmethod
    def read(cls, job: str, stored: str) -> Self:
        """Read what the ledger keeps; of a row from before sources were kept, only `user|line`, or nothing."""
        if stored.startswith("{"):
            return cls.model_validate_json(stored).model_copy(update={"job": job})
        user, _, line = stored.partition("|")
        return cls(job=job, user=user, line=line)


NO_SOURCE = RowSource()


def check_dataset_name(name: str) -> str:
    """Return a well-formed data set name; raises `Invalid` otherwise."""
    if not _NAME.fullmatch(name):
        fitting = re.sub("[^a-z0-9_.]+", "-", name.lower()).strip("-_.")[:MAX_NAME_CHARS] or "rows"
        raise Invalid(
            "name_malformed",
            f"{name!r} is no data set name: 1 to {MAX_NAME_CHARS} of a-z, 0-9, _ . and -, the first a letter or digit;"
            f" take `name={fitting}` (`signalbox datasets add FILE --name {fitting}`)",
        )
    return name


def parse_rows(data: bytes) -> list[Row]:
    """Read rows in their canonical form, as they are stored."""
    return [Row.model_validate_json(line) for line in data.splitlines()]


def dump_rows(rows: Iterable[Row]) -> bytes:
    """Return the canonical bytes of a data set: equal rows give equal bytes, and so the same id."""
    return b"".join(map(dump_row, rows))


def dump_row(row: Row) -> bytes:
    """Return the canonical line of one row."""
    fields = row.model_dump(exclude_defaults=True, exclude=_TOLD_BY_MESSAGES if row.messages else None)
    return (json.dumps(fields, ensure_ascii=False, sort_keys=True) + "\n").encode()


def dataset_id(data: bytes) -> str:
    """Return `ds_` and the first 24 hex digits of the SHA-256 of the canonical bytes."""
    return id_of_digest(hashlib.sha256(data).hexdigest())


def id_of_digest(sha256: str) -> str:
    """Return the id of a data set by the SHA-256 of its canonical bytes."""
    return f"ds_{sha256[:24]}"
