"""How to generate an answer: sampling, its bounds, what it must be, the tools that it may call."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.constraints import Constraint
from shared.contracts.jobs import DEFAULT_NEW_TOKENS
from shared.contracts.tools import NamedTool, Tool, ToolMode


def without_nulls(fields: Any) -> Any:
    """Return the fields of an object that have a value; what is no object is returned as it is."""
    is_given = isinstance(fields, Mapping)
    return {name: value for name, value in fields.items() if value is not None} if is_given else fields


class GenerationParams(BaseModel):
    """How to generate, with the defaults; fields of a newer version are kept unchanged."""

    model_config = ConfigDict(frozen=True, extra="allow")

    version: int = 1
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    temperature: float = 0.0
    """0 means greedy decoding."""
    top_p: float = 1.0
    top_k: int = 0
    """0 means all tokens."""
    seed: int | None = None
    """Choice `i` is sampled from the random stream of `seed + i`."""
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    n: int = 1
    """How many choices; they share the computation of the prompt."""
    top_logprobs: int = 0
    """How many alternatives of each token `logprobs` has."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of each token that the choice has already; the prompt's do not count."""
    frequency_penalty: float = 0.0
    """The same, as often as the choice has the token."""
    logit_bias: Mapping[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], float] = Field(default_factory=dict)
    """Token id -> what is added to its logit."""
    constraint: Constraint | Literal["none"] | None = None
    """What each choice's text must be; left out, what its adapter comes with; `none` turns that off."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolMode | NamedTool = "auto"
    parallel_tool_calls: bool = True
    """Whether an answer may have several calls."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, fields: Any) -> Any:
        return without_nulls(fields)

    @property
    def new_tokens(self) -> int:
        """The most tokens of all choices together."""
        return self.n * self.max_new_tokens

    @property
    def offered_tools(self) -> tuple[Tool, ...]:
        """The tools that the model is shown."""
        return () if self.tool_choice == "none" else self.tools

    @property
    def demanded_tools(self) -> tuple[Tool, ...]:
        """The tools of which the answer has to call one; empty where it may say anything."""
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.function.name
            return tuple(tool for tool in self.tools if tool.function.name == name)
        return self.tools if self.tool_choice == "required" else ()
