"""The bodies and results of generation and selection jobs.

Bodies and results stored in an older form (`input` and `instruction`; one flat answer) are read too.
"""
# mypy: disable-error-code="prop-decorator"
# mypy does not support decorated properties, which pydantic uses for computed fields.

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, computed_field, model_validator

from shared.contracts.conversation import (
    INSTRUCTING,
    Message,
    Record,
    check_order,
    last_user,
    message,
    with_instruction,
)
from shared.contracts.generation_params import GenerationParams, without_nulls
from shared.contracts.jobs import Job, ListedJob, Priority
from shared.contracts.labels import LabelText
from shared.contracts.logprobs import TokenLogprobs
from shared.contracts.prompts import PromptPart
from shared.contracts.tools import ToolCall
from shared.errors import Invalid

TELLS_TOKENS = "tells_tokens"
"""The member of a generation's body that its accepter sets, not its caller."""
_R = TypeVar("_R", bound=Record)


class SelectBody(Record):
    """The body of a selection job, which finds the label of a conversation's last user turn."""

    messages: tuple[Message, ...]
    metadata: Mapping[str, str] = Field(default_factory=dict)
    explain: bool = False
    """Whether the job keeps what its label and its answer follow from: it takes time and room that others need."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, fields: Any) -> Any:
        """Expand the short form: `input` and `instruction` mean one user and one system message."""
        given = without_nulls(fields)
        if not isinstance(given, dict) or "messages" in given or "input" not in given:
            return given
        turns = [message("user", given["input"])]
        instruction = given.get("instruction")
        return given | {"messages": with_instruction(turns, instruction) if instruction else turns}

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        check_order(self.messages)
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """All that the request says: the text of every message, and what calls say."""
        calls = (call for turn in self.messages for call in turn.tool_calls or ())
        return (*(turn.text for turn in self.messages), *(call.function.arguments for call in calls))

    @property
    def system_text(self) -> str:
        """The caller's instruction; empty where the adapter's own is used."""
        first = self.messages[0]
        return first.text if first.role in INSTRUCTING else ""

    @property
    def last_user_text(self) -> str:
        """The text to answer."""
        return self.messages[last_user(self.messages)].text

    @property
    def has_tool_turns(self) -> bool:
        """Whether a turn calls tools, or is a tool's answer."""
        return any(turn.role == "tool" or turn.tool_calls for turn in self.messages)


class GenerationBody(SelectBody):
    """The body of a generation job; without `label` and `adapter` the selector chooses the adapter."""

    label: str | None = None
    adapter: str | None = None
    params: GenerationParams = GenerationParams()
    priority: Priority = "interactive"
    deadline_seconds: float | None = None
    tells_tokens: bool = True
    """Whether the worker writes an event for each piece of the answer: nobody reads those of answers sent whole."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that the request says, its tools included."""
        return (*super().texts, *(tool.text for tool in self.params.offered_tools))

    @property
    def needs_tools(self) -> bool:
        """Whether its template has to write tools, calls, or what tools answer."""
        return bool(self.params.offered_tools) or self.has_tool_turns

    @property
    def is_named(self) -> bool:
        """Whether the caller names the label or adapter."""
        return self.label is not None or self.adapter is not None


class LabelProbability(Record):
    """A label and its calibrated probability."""

    label: LabelText
    probability: float


class Neighbour(Record):
    """A row that the selector was trained on, and how like the text it is: from 0, nothing in common, to 1."""

    label: LabelText
    text: str
    similarity: float


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return not value


class SelectionResult(Record):
    """The result of a selection, as ledger and API show it; a field that its writer did not know is null or empty."""

    label: LabelText | None = None
    """Null where the text was rejected."""
    probability: float | None = None
    """Calibrated probability of `best_label`."""
    confidence: float | None = None
    """Confidence in `best_label`; it is compared with `threshold`."""
    best_label: LabelText | None = None
    runners_up: tuple[LabelProbability, ...] = ()
    label_set: tuple[LabelText, ...] = ()
    """The conformal set: it contains the chosen label always, and the right one with probability `coverage` for texts
    like those that the release was calibrated on. Empty: the text was rejected, and no label is plausible."""
    coverage: float | None = None
    rejected: bool = False
    ambiguous: bool = False
    """Whether the text lies between the two most probable labels."""
    choices: tuple[LabelProbability, ...] = ()
    """These two, where the release lets whoever asks choose: name one of them in `label`."""
    threshold: float | None = None
    selector: str | None = None
    """Digest of the selector."""
    by: str | None = None
    """Why this label: the parts of the selector that decided by the last turn (`prototypes`, `light`, `llm` or `both`);
    `dialogue` where that turn says little and was read with the turns before it; `kept` where the conversation's label
    stands against the last turn's own; `named` where the caller named the label."""
    release: str | None = None
    score_ms: float | None = None
    probabilities: tuple[LabelProbability, ...] = Field(default=(), exclude_if=_is_empty)
    """The most probable labels, the best first, with `none.none` for texts that belong to no label; left out unless the
    request says `explain`."""
    neighbours: tuple[Neighbour, ...] = Field(default=(), exclude_if=_is_empty)
    """The rows of the most probable labels that are most like the text; left out unless the request says `explain`."""


class Usage(Record):
    """Numbers of tokens: of the prompt, which counts once, and of all choices."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Choice(Record):
    """One answer."""

    index: int = 0
    text: str = ""
    """What it says besides its calls."""
    finish_reason: str = "stop"
    """`stop`, `length`, or `tool_calls`."""
    logprobs: TokenLogprobs | None = None
    """Of the tokens that `text` and the calls show; null unless the job requests them."""
    tool_calls: tuple[ToolCall, ...] = Field(default=(), exclude_if=_is_empty)


class GenerationResult(Record):
    """The result of a generation job, with the adapter, selector and release that produced it.

    The first choice is also written as flat fields, for clients and for versions without `choices`.
    """

    choices: tuple[Choice, ...] = Field(min_length=1)
    usage: Usage = Usage()
    label: LabelText | None = None
    adapter: str | None = None
    """Digest of the adapter; null where the base model answered."""
    adapter_ref: LabelText | None = None
    release: str | None = None
    selector: str | None = None
    """Digest of the selector; null where the caller named the label."""
    base_model: str | None = None
    prompt_shortened: bool = False
    first_token_ms: float | None = None
    generate_ms: float | None = None
    prompt: tuple[PromptPart, ...] = Field(default=(), exclude_if=_is_empty)
    """What the model was given, before it was shortened; left out unless the request says `explain`."""

    @model_validator(mode="before")
    @classmethod
    def _from_flat_form(cls, fields: Any) -> Any:
        """Read the older form of a result, whose one answer is in flat fields."""
        if not isinstance(fields, dict) or "choices" in fields:
            return fields
        choice = {name: fields[name] for name in ("text", "finish_reason") if name in fields}
        if "token_ids" in fields and "logprobs" in fields:
            choice["logprobs"] = {"token_ids": fields["token_ids"], "logprobs": fields["logprobs"]}
        usage = {
            "prompt_tokens": fields.get("prompt_tokens", 0),
            "completion_tokens": fields.get("generated_tokens", 0),
        }
        return fields | {"choices": [choice], "usage": usage}

    @computed_field
    @property
    def text(self) -> str:
        """Of the first choice."""
        return self.choices[0].text

    @computed_field
    @property
    def finish_reason(self) -> str:
        """Of the first choice."""
        return self.choices[0].finish_reason

    @computed_field(exclude_if=_is_empty)
    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Of the first choice; left out where it calls nothing."""
        return self.choices[0].tool_calls

    @computed_field
    @property
    def prompt_tokens(self) -> int:
        """The same as `usage.prompt_tokens`."""
        return self.usage.prompt_tokens

    @computed_field
    @property
    def generated_tokens(self) -> int:
        """The same as `usage.completion_tokens`."""
        return self.usage.completion_tokens

    @computed_field(exclude_if=_is_none)
    @property
    def token_ids(self) -> tuple[int, ...] | None:
        """Tokens of the first choice; left out unless log-probabilities were requested."""
        first = self.choices[0].logprobs
        return first.token_ids if first else None

    @computed_field(exclude_if=_is_none)
    @property
    def logprobs(self) -> tuple[float, ...] | None:
        """Log-probabilities of the first choice; left out unless they were requested."""
        first = self.choices[0].logprobs
        return first.logprobs if first else None


def select_body(job: ListedJob) -> SelectBody:
    """Return the conversation of a selection or generation job; raises `Invalid` where the body is malformed."""
    return _read(SelectBody, job, job.body or {})


def generation_body(job: Job) -> GenerationBody:
    """Return the body of a generation job; raises `Invalid` where it is malformed."""
    return _read(GenerationBody, job, job.body)


def selection_of(job: ListedJob) -> SelectionResult | None:
    """Return the job's selection; None without one, or before it is made. Raises `Invalid` where it is malformed."""
    return None if job.selection is None else _read(SelectionResult, job, job.selection)


def generation_result(job: ListedJob) -> GenerationResult | None:
    """Return the result of a generation job; None before it has one. Raises `Invalid` where it is malformed."""
    return None if job.result is None else _read(GenerationResult, job, job.result)


def _read(kind: type[_R], job: ListedJob, fields: dict[str, Any]) -> _R:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        detail = f"job {job.id} does not read as a {kind.__name__}: {where}: {first['msg']}; submit it anew"
        raise Invalid("job_malformed", detail) from error
