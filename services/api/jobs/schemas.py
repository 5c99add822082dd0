"""Requests and responses of the API; every number, text and list is bounded, unknown fields are refused."""

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from fastapi import Path
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from shared.contracts.conversation import Role, check_order
from shared.contracts.generation import GenerationResult, SelectionResult
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.labels import parse_label

# More than any deployment's `max_input_chars`, and less than one record of the ledger should hold.
MAX_TEXT_CHARS = 1_000_000
MAX_DEADLINE_SECONDS = 86_400
MAX_INSTRUCTION_CHARS = 20_000
MAX_MESSAGES = 1_000
MAX_PARTS = 100
MAX_WAIT_SECONDS = 60


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty; write something")
    return text


def _well_formed(label: str) -> str:
    return str(parse_label(label))


Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS), AfterValidator(_not_blank)]
LabelText = Annotated[str, StringConstraints(min_length=3, max_length=65)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=100)]
PathId = Annotated[str, Path(max_length=64)]
PathRef = Annotated[str, Path(max_length=100)]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]


class Request(BaseModel):
    """A request body: types are exact, unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Params(Request):
    """How to generate; the worker chooses a default for each missing field."""

    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    """0 selects the most probable token."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """0 means all."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    stop: Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=64)]], Field(max_length=8)] = []
    logprobs: bool = False
    """Also return the answer's `token_ids` and the natural logarithm of each one's probability, before temperature."""


class TextPart(Request):
    """A part of a message's text."""

    type: Literal["text"]
    text: Text


class Message(Request):
    """One turn of a conversation; `content` is a text, or a list of its parts."""

    role: Role
    content: Annotated[
        Annotated[Text, Tag("text")]
        | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), Tag("parts")],
        Discriminator(lambda content: "parts" if isinstance(content, list) else "text"),
    ]


class Conversation(Request):
    """One text with its instruction, or a list of messages whose last one is the text."""

    input: Text | None = None
    """The text; a short form for one user message."""
    instruction: Annotated[str, Field(max_length=MAX_INSTRUCTION_CHARS)] = ""
    """A short form for one system message before the text; where it is empty, the adapter's own instruction is used."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    """Replaces `input` and `instruction`: an optional system or developer message, then turns; the last turn is the
    user's."""

    @model_validator(mode="after")
    def _is_given_once(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages" + (", not both" if self.messages else ""))
        if self.messages is None:
            return self
        if self.instruction:
            raise ValueError("instruction belongs to input; begin messages with a system message")
        check_order([message.role for message in self.messages])
        return self

    @cached_property
    def body(self) -> dict[str, Any]:
        """The job's body as the caller wrote it: a repeated request is recognised by it."""
        left_out = {"wait_seconds"} | ({"instruction"} if self.messages else set())
        return self.model_dump(mode="json", exclude_none=True, exclude=left_out)


class JobRequest(Conversation):
    """A text or conversation to answer; without `label` and `adapter` the selector chooses the adapter."""

    label: LabelText | None = None
    adapter: Ref | None = None
    """`label@n` or a digest; the adapter must be in the current release."""
    params: Params = Params()
    priority: Literal["interactive", "batch"] = "interactive"
    """`batch` may wait: a queue that has both gives out four interactive jobs before each of these."""
    deadline_seconds: Annotated[float, Field(gt=0, le=MAX_DEADLINE_SECONDS)] | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.label is not None and self.adapter is not None:
            raise ValueError("give label or adapter, not both")
        return self


class SelectRequest(Conversation):
    """A text or conversation whose label is to be found; of a conversation, the last text counts."""

    wait_seconds: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS)] = 10
    """How long the server waits for the result before it answers 202."""


class FeedbackRequest(Request):
    """Feedback on a finished job: the right label, a rating, the right output; at least one of them."""

    label: Annotated[LabelText, AfterValidator(_well_formed)] | None = None
    rating: Literal[-1, 0, 1] | None = None
    """-1 wrong, 0 neither, 1 right."""
    output: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.label is None and self.rating is None and self.output is None:
            raise ValueError("give at least one of label, rating and output")
        return self


class PromoteRequest(Request):
    """`force` overrules the gate and does not require live workers."""

    force: bool = False


class RollbackRequest(Request):
    """The release to return to; where `to` is empty, the current release's parent."""

    to: Annotated[str, Field(max_length=64)] = ""


class Accepted(BaseModel):
    """A job that is stored in the ledger."""

    id: str
    kind: JobKind
    state: JobState
    label: str | None
    release: str | None
    url: str
    events_url: str


class JobView(BaseModel):
    """A job as its owner sees it; times are in milliseconds: since 1970, or the duration of a stage."""

    id: str
    kind: JobKind
    state: JobState
    waiting_for_group: bool
    """Whether the job waits and no live worker serves its queue."""
    queue: str
    label: str | None
    release: str | None
    attempt: int
    cancel_requested: bool
    created_at: str
    timestamps: dict[str, float]
    stage_ms: dict[str, float]
    request: dict[str, Any]
    """The request as the caller wrote it."""
    metadata: dict[str, str]
    selection: SelectionResult | None
    progress: dict[str, Any] | None
    # left_to_right keeps the plain object of a training job: only typed values reach the other types.
    result: Annotated[dict[str, Any] | GenerationResult | SelectionResult | None, Field(union_mode="left_to_right")]
    """The result of a training, generation or selection job."""
    error: dict[str, Any] | None
    feedback: dict[str, Any] | None


class JobPage(BaseModel):
    """Jobs, newest first; `next` is the cursor of the next page, null at the end."""

    items: list[JobView]
    next: str | None


class Selection(SelectionResult):
    """The result of a selection job."""

    id: str
    state: JobState
