"""Requests and responses of the API; every number, text and list is bounded, unknown fields are refused."""

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from fastapi import Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from services.api.jobs.params import Choices, LogitBias, Penalty, TopLogprobs
from services.api.jobs.tools import ToolCalls, ToolChoice, Tools
from shared.contracts.constraints import Constraint
from shared.contracts.conversation import Role, check_order, check_turn
from shared.contracts.generation import SelectionResult
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.labels import LabelText as AnyLabel
from shared.contracts.tools import CallId
from shared.contracts.training_tasks import AdapterRef
from shared.ledger.calls import JobFilter

# More than any deployment's `max_input_chars`, and less than one record of the ledger should hold.
MAX_TEXT_CHARS = 1_000_000
MAX_DEADLINE_SECONDS = 86_400
MAX_INSTRUCTION_CHARS = 20_000
MAX_MESSAGES = 1_000
MAX_METADATA = 16
MAX_PARTS = 100
MAX_WAIT_SECONDS = 60


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty; write something")
    return text


AnyText = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS), AfterValidator(_not_blank)]
LabelText = Annotated[AnyLabel, StringConstraints(min_length=1, max_length=65)]
ReleaseId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=100)]
PathId = Annotated[str, Path(max_length=64)]
After = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=64)]
"""Training jobs that must succeed first."""
UserId = Annotated[str, StringConstraints(min_length=1, max_length=512)]
UserHash = Annotated[str, StringConstraints(max_length=36, pattern="^usr_[0-9a-f]{32}$")]
Cursor = Annotated[
    str, Query(max_length=26, pattern=r"^([0-9]{1,16}(\.[0-9]{1,9})?)?$", description="`next` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=200)]
Include = Annotated[
    tuple[Literal["request", "result", "feedback"], ...],
    Query(
        max_length=3, description="Fields that may be large: a list has those that are named here; repeat it for more"
    ),
]
Time = Annotated[AwareDatetime, WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40})]
PathRef = Annotated[str, Path(max_length=100)]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=MAX_METADATA),
]


class RunsAfter(BaseModel):
    """What every request for a training may name."""

    after: After = Field(default_factory=list)


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
    """Also return the tokens of each choice's text and the natural logarithm of each one's probability, which is the
    model's own: before temperature, penalties and bias."""
    top_logprobs: TopLogprobs | None = None
    """How many of the most probable tokens to return for each place of the answer; needs `logprobs`."""
    n: Choices | None = None
    """How many choices to give, each sampled from its own random stream: `seed`, `seed + 1`, …. The prompt is computed
    once. At temperature 0 they are equal."""
    presence_penalty: Penalty | None = None
    """Subtracted from the logit of each token that the choice has already; tokens of the prompt do not count."""
    frequency_penalty: Penalty | None = None
    """The same, as often as the choice has the token."""
    logit_bias: LogitBias | None = None
    """Token id of the base model -> what is added to its logit: a few change how likely it is, -100 and 100 as good as
    forbid and force it."""
    constraint: Constraint | Literal["none"] | None = None
    """What each choice's text must be, unless it is cut. Without it the answer is bound by what its adapter comes with,
    if by anything; `none` turns that off."""
    tools: Tools | None = None
    """Functions that the answer may call, where the chosen adapter's template is a chat template that writes tools."""
    tool_choice: ToolChoice | None = None
    """`auto` lets the model decide, `none` hides the tools from it, `required` or a function's name demands a call."""
    parallel_tool_calls: bool | None = None
    """False: of several calls only the first one counts."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: set logprobs to true, or leave top_logprobs out")
        if self.tools and self.tool_choice != "none" and isinstance(self.constraint, Constraint):
            raise ValueError("an answer under a constraint calls no tools: leave one out, or take tool_choice 'none'")
        return self


class TextPart(Request):
    """A part of a message's text."""

    type: Literal["text"]
    text: Text


def _said(text: str, info: ValidationInfo) -> str:
    may_be_blank = info.data.get("role") == "tool" or info.data.get("tool_calls")
    return text if may_be_blank else _not_blank(text)


class Message(Request):
    """One turn of a conversation; `content` is a text, or a list of its parts."""

    role: Role
    tool_calls: ToolCalls | None = None
    """What the assistant called; a message of the role `tool` follows for each."""
    tool_call_id: CallId | None = None
    """The call that a message of the role `tool` answers."""
    content: (
        Annotated[
            Annotated[AnyText, AfterValidator(_said), Tag("text")]
            | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), Tag("parts")],
            Discriminator(lambda content: "parts" if isinstance(content, list) else "text"),
        ]
        | None
    ) = None
    """Only a message with `tool_calls` may have none, and only a tool's may be empty."""

    @model_validator(mode="after")
    def _is_of_its_role(self) -> Self:
        check_turn(self)
        return self


def _in_order(messages: list[Message]) -> list[Message]:
    check_order(messages)
    return messages


class Conversation(Request):
    """One text with its instruction, or a list of messages whose last one is the text."""

    input: Text | None = None
    """The text; a short form for one user message."""
    instruction: Annotated[str, Field(max_length=MAX_INSTRUCTION_CHARS)] = ""
    """A short form for one system message before the text; where it is empty, the adapter's own instruction is used."""
    messages: (
        Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), AfterValidator(_in_order)] | None
    ) = None
    """Replaces `input` and `instruction`: an optional system or developer message, then turns; the last turn is the
    user's, or a tool's."""
    explain: bool | None = None
    """Whether the job keeps what its label and its answer follow from: the probabilities of all labels, the nearest
    rows that the selector was trained on, the prompt that the model got. It needs the scope `read`."""
    user: UserId | None = None
    """Id of the caller's own user; a keyed hash of it is kept, by which `POST /v1/users/forget` finds the job."""

    @model_validator(mode="after")
    def _is_given_once(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages" + (", not both" if self.messages else ""))
        if self.messages is not None and self.instruction:
            raise ValueError("instruction belongs to input; begin messages with a system message")
        return self

    @cached_property
    def body(self) -> dict[str, Any]:
        """The job's body as the caller wrote it: a repeated request is recognised by it."""
        left_out = {"wait_seconds"} | ({"instruction"} if self.messages else set())
        return self.model_dump(mode="json", exclude_none=True, exclude=left_out)


class JobRequest(Conversation):
    """A text or conversation to answer; without `label` and `adapter` the selector chooses the adapter."""

    label: LabelText | None = None
    """A label of the current release, or `base`: the base model alone."""
    adapter: AdapterRef | None = None
    """`label@n` or a digest; the adapter must be in the current release."""
    release: ReleaseId | None = None
    """The current release, or the one before it; left out, the current one."""
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
    """A text or conversation whose label is to be found; of a conversation, that of its last turn.

    `conversation_id` in `metadata` names the conversation whose label may stay; a selection never changes that label.
    """

    metadata: Metadata | None = None

    wait_seconds: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS)] = 10
    """How long the server waits for the result before it answers 202."""


class JobQuery(BaseModel):
    """Which jobs to list; the filters are joined by and."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    state: JobState | None = None
    kind: JobKind | None = None
    label: LabelText | None = None
    """The label that a job named, or that the selector chose."""
    rejected: bool | None = None
    """Whether the selector found no label, whatever became of the job then."""
    disputed: bool | None = None
    """Whether the parts of the selector were at odds: the text lies between two labels, the language model had
    to decide with words that were not sure, or its conversation's label stood against its own."""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0
    max_probability: Annotated[float, Field(ge=0, le=1)] = 1
    """Bounds of the probability that the selector gave its best label."""
    feedback: bool | None = None
    """Whether somebody gave feedback."""
    key: Annotated[str, Field(max_length=64)] | None = None
    """Id of the API key that submitted the job."""
    user: UserHash | None = None
    """Hash of the user that the job named, as the job's `request` and `POST /v1/users/forget` show it."""
    since: Time | None = None
    """Only jobs created at this time or later, such as 2026-01-31T08:00:00Z."""
    until: Time | None = None

    before: Cursor = ""
    limit: Limit = 50
    include: Include = ()

    @property
    def filter(self) -> JobFilter:
        """The filter of the ledger's call."""
        times = {name: value.timestamp() * 1000 for name in ("since", "until") if (value := getattr(self, name))}
        named = self.model_dump(exclude={"since", "until", "before", "limit", "include"})
        return JobFilter(**named, since_ms=times.get("since"), until_ms=times.get("until"))


class Accepted(BaseModel):
    """A job that is stored in the ledger."""

    id: str
    kind: JobKind
    state: JobState
    label: str | None
    release: str | None
    url: str
    events_url: str


class Selection(SelectionResult):
    """The result of a selection job."""

    id: str
    state: JobState
