"""Requests in OpenAI's format; a field that is not honoured is refused by name."""

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from services.api.jobs.schemas import MAX_MESSAGES, MAX_PARTS, MAX_TEXT_CHARS, Metadata, Text, UserId
from services.api.jobs.tools import ToolCalls, ToolChoice, Tools
from services.api.openai import fields
from services.api.openai.formats import Format, TextFormat
from shared.contracts.conversation import INSTRUCTING, Role, check_turn
from shared.contracts.tools import CallId, NamedTool

MAX_CHOICES = 8
MAX_PROMPTS = 8
MAX_BIASES = 300
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
StopText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
Biases = Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)]


class Body(BaseModel):
    """A body in OpenAI's format: types are exact, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Part(Body):
    """A text part of a message; other types of parts are refused."""

    type: Literal["text"]
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]
    prompt_cache_breakpoint: fields.CacheHint = None


class ChatMessage(Body):
    """One message of a chat."""

    role: Role
    content: (
        Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]
        | Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]
        | None
    ) = None
    name: fields.NoName = None
    tool_calls: ToolCalls | None = None
    tool_call_id: CallId | None = None
    function_call: fields.NoFunctionCall = None
    refusal: fields.NoRefusal = None
    audio: fields.NoAudio = None
    annotations: fields.SpeedHint = None

    @model_validator(mode="after")
    def _is_of_its_role(self) -> Self:
        check_turn(self)
        return self

    @property
    def text(self) -> str:
        """The text of all parts, joined by line breaks."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content or ())

    @property
    def turn(self) -> dict[str, Any]:
        """The message in the form of our own jobs."""
        calls = [call.model_dump() for call in self.tool_calls or ()]
        said = {"content": self.text or None} if calls else {"content": self.text}
        given = {"role": self.role, **said, "tool_calls": calls or None, "tool_call_id": self.tool_call_id}
        return {name: value for name, value in given.items() if value is not None}


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_usage: bool = False
    include_obfuscation: fields.SpeedHint = None


class Sampling(Body):
    """What chats and completions have in common."""

    model: ModelName
    frequency_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    metadata: Metadata | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    presence_penalty: Penalty | None = None
    safety_identifier: UserId | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=8)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Not OpenAI's: 0 means all tokens."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    user: UserId | None = None

    prompt_cache_key: fields.CacheHint = None
    prompt_cache_options: fields.CacheHint = None
    prompt_cache_retention: fields.CacheHint = None
    store: fields.NoStore = None

    @model_validator(mode="after")
    def _streams_what_it_describes(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options belong to a stream: add stream, or leave them out")
        return self

    @property
    def tier(self) -> Literal["default", "flex"]:
        """The tier that serves the request: `flex` may wait for the others."""
        return "flex" if self.service_tier == "flex" else "default"

    @property
    def end_user(self) -> str | None:
        """Who the caller says it asks for."""
        return self.safety_identifier or self.user

    def params(self, **more: Any) -> dict[str, Any]:
        """Return how to generate, in the form of our own jobs; where nothing is said the worker's defaults hold."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        # Adapters are checked by greedy decoding, so that is the default; several equal answers would be of no use.
        temperature = 1.0 if self.temperature is None and (self.n or 1) > 1 else self.temperature
        given = {
            "max_new_tokens": self.max_tokens,
            "temperature": temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stop": stop or None,
            "n": self.n,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "logit_bias": self.logit_bias or None,
            **more,
        }
        return {name: value for name, value in given.items() if value is not None}


class ChatRequest(Sampling):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[
        int | None, Field(ge=1, le=100_000, validation_alias=AliasChoices("max_completion_tokens", "max_tokens"))
    ] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None

    audio: fields.NoAudio = None
    function_call: fields.NoFunctionChoice = None
    functions: fields.NoFunctions = None
    modalities: fields.OnlyText = None
    moderation: fields.NoModeration = None
    prediction: fields.SpeedHint = None
    reasoning_effort: fields.NoReasoning = None
    verbosity: fields.NoVerbosity = None
    web_search_options: fields.NoSearch = None

    @model_validator(mode="after")
    def _asks_for_what_it_ranks(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs need logprobs: true")
        return self

    @field_validator("response_format")
    @classmethod
    def _binds_no_call(cls, value: Format | None, info: ValidationInfo) -> Format | None:
        offers = info.data.get("tools") and info.data.get("tool_choice") != "none"
        if offers and not (value is None or isinstance(value, TextFormat)):
            raise ValueError("an answer in this format calls no tools: leave one out, or take tool_choice 'none'")
        return value

    @cached_property
    def turns(self) -> list[dict[str, Any]]:
        """The conversation: its first instructions joined to one message, empty ones left out."""
        count = next((at for at, one in enumerate(self.messages) if one.role not in INSTRUCTING), len(self.messages))
        said = [one.text for one in self.messages[:count] if one.text.strip()]
        first = [{"role": "system", "content": "\n\n".join(said)}] if said else []
        return first + [one.turn for one in self.messages[count:]]

    @property
    def generation(self) -> dict[str, Any]:
        """How to generate, in the form of our own jobs."""
        constraint = self.response_format and self.response_format.constraint
        named = self.tool_choice.model_dump() if isinstance(self.tool_choice, NamedTool) else self.tool_choice
        return self.params(
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs or None,
            constraint=constraint,
            tools=[tool.model_dump(exclude_none=True) for tool in self.tools or ()] or None,
            tool_choice=named,
            parallel_tool_calls=self.parallel_tool_calls,
        )


class CompletionRequest(Sampling):
    """The body of `POST /v1/completions`; the adapter's template frames the prompt as the text of a user's turn."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
    """A list is answered prompt by prompt, each by the adapter that fits it."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    best_of: fields.NoBestOf = None
    echo: fields.NoEcho = None
    suffix: fields.NoSuffix = None

    @model_validator(mode="after")
    def _tells_several_whole(self) -> Self:
        if self.stream and len(self.prompts) > 1:
            raise ValueError("several prompts are not streamed: send one prompt, or leave stream out")
        return self

    @property
    def prompts(self) -> list[str]:
        """The texts, each of which is answered."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def parts(self) -> list[Self]:
        """The request for each prompt by itself."""
        return [self.model_copy(update={"prompt": text}) for text in self.prompts]

    @property
    def turns(self) -> list[dict[str, str]]:
        """The only prompt as a conversation of one turn."""
        return [{"role": "user", "content": self.prompts[0]}]

    @property
    def generation(self) -> dict[str, Any]:
        """How to generate, in the form of our own jobs."""
        return self.params(logprobs=self.logprobs is not None or None, top_logprobs=self.logprobs or None)
