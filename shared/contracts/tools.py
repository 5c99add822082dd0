"""Tools that a model may call: functions with their parameters, the calls of an answer, and what a request asks for."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.constraints import Constraint, SchemaText

MAX_TOOLS = 128
MAX_TOOLS_CHARS = 65_536
"""Of all tools of a request together, as JSON."""
MAX_CALLS = 128
"""Of one turn."""
MAX_ARGUMENTS_CHARS = 100_000
MAX_DESCRIPTION_CHARS = 20_000
MAX_DEPTH = 32
"""Of lists and objects in parameters and arguments."""


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _as_object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_constant)
        is_deep = _depth(found) > MAX_DEPTH
        json.dumps(found, ensure_ascii=False).encode()  # escapes may stand for what is no text
    except RecursionError:
        is_deep = True
    except ValueError:
        raise ValueError(f"{what} are no JSON") from None
    if is_deep:
        raise ValueError(f"{what} are nested too deeply: {MAX_DEPTH} levels are the most")
    if not isinstance(found, dict):
        raise ValueError(f"{what} are no JSON object")
    return found


def _parameters(text: str) -> str:
    schema = _as_object(text, "the parameters")
    if schema.get("type", "object") != "object":
        raise ValueError("the parameters are a JSON Schema of the type object: give each parameter a name")
    return text


def _arguments(text: str) -> str:
    _as_object(text, "the arguments")
    return text


FunctionName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Function(_Part):
    """A function that a model may call."""

    name: FunctionName
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS)] | None = None
    parameters: Annotated[SchemaText, AfterValidator(_parameters)] | None = None
    """A JSON Schema of the type object; left out, the function has no parameters."""
    strict: bool | None = None
    """Changes nothing: arguments keep to the schema where `tool_choice` demands a call."""


class Tool(_Part):
    """A tool; only functions are taken."""

    type: Literal["function"]
    function: Function

    @property
    def text(self) -> str:
        """All that it says, for counting."""
        return f"{self.function.name}{self.function.description or ''}{self.function.parameters or ''}"

    def shown(self) -> dict[str, Any]:
        """Return the tool as chat templates are shown it."""
        written = self.function.model_dump(exclude_none=True, exclude={"strict"})
        if self.function.parameters is not None:
            written["parameters"] = json.loads(self.function.parameters)
        return {"type": self.type, "function": written}


T = TypeVar("T", bound=Sequence[Tool])


def checked_tools(tools: T) -> T:
    """Return the tools of a request; raises `ValueError` where a name stands twice, or where they are too long."""
    names = [tool.function.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the function {twice!r} is there twice: leave one of them out")
    if (chars := sum(len(tool.text) for tool in tools)) > MAX_TOOLS_CHARS:
        raise ValueError(f"the tools have {chars} characters together, at most {MAX_TOOLS_CHARS} are taken")
    return tools


class FunctionByName(_Part):
    """The name of a function."""

    name: FunctionName


class NamedTool(_Part):
    """The choice of one function."""

    type: Literal["function"]
    function: FunctionByName


ToolMode = Literal["none", "auto", "required"]


class Called(_Part):
    """What a call says: a function, and its arguments as the text of a JSON object."""

    name: FunctionName
    arguments: Annotated[str, StringConstraints(max_length=MAX_ARGUMENTS_CHARS), AfterValidator(_arguments)]


class ToolCall(_Part):
    """A call of a function."""

    id: CallId
    type: Literal["function"] = "function"
    function: Called


def call_constraint(tools: Sequence[Tool], name_key: str = "name", arguments_key: str = "arguments") -> Constraint:
    """Return what an answer has to be that calls one of these tools; the keys are those of a template's calls."""
    calls, parts = [], {}
    for number, tool in enumerate(tools):
        place = f"#/$defs/{number}"
        parts[str(number)] = _moved(_schema_of(tool), place)
        calls.append({
            "type": "object",
            "properties": {name_key: {"const": tool.function.name}, arguments_key: {"$ref": place}},
            "required": [name_key, arguments_key],
            "additionalProperties": False,
        })  # fmt: skip
    schema = json.dumps({"anyOf": calls, "$defs": parts}, ensure_ascii=False, separators=(",", ":"))
    return Constraint.model_construct(json_schema=schema)  # the tools have bounds of their own


def _schema_of(tool: Tool) -> dict[str, Any]:
    if tool.function.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **json.loads(tool.function.parameters)}


_LITERAL = frozenset({"const", "enum", "default", "examples"})
"""Words of a schema whose values are no schemas."""


def _moved(schema: Any, place: str) -> Any:
    """The schema whose references within itself hold where it stands at another place."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {word: _moved_word(word, value, place) for word, value in schema.items()}


def _moved_word(word: str, value: Any, place: str) -> Any:
    if word in _LITERAL:
        return value
    is_reference = word == "$ref" and isinstance(value, str) and value.startswith("#")
    return place + value[1:] if is_reference else _moved(value, place)
