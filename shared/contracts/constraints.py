"""What an answer's text must look like: a request's constraint, or the one that an adapter comes with."""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

MAX_SCHEMA_CHARS = 50_000
MAX_GRAMMAR_CHARS = 50_000
MAX_REGEX_CHARS = 5_000
MAX_CHOICES = 1_000
MAX_CHOICE_CHARS = 1_000
MAX_CHOICES_CHARS = 50_000
"""Of all choices together."""

Kind = Literal["json_schema", "json_object", "regex", "choices", "grammar"]
UNCONSTRAINED = "none"
"""In place of a constraint: none, also where the adapter comes with one."""


def _as_text(schema: Any) -> Any:
    """The schema as JSON text, in which the order of keys and nulls outlive every store; bounds are checked next."""
    if not isinstance(schema, dict):
        return schema
    try:
        return json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None


def _is_object(text: str) -> str:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise ValueError("the schema is no JSON object")
    return text


SchemaText = Annotated[
    str,
    StringConstraints(max_length=MAX_SCHEMA_CHARS),
    BeforeValidator(_as_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "maxProperties": MAX_SCHEMA_CHARS},
                {"type": "string", "maxLength": MAX_SCHEMA_CHARS},
            ]
        }
    ),
]
"""A JSON Schema: an object, or its text."""
ChoiceText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHOICE_CHARS)]


class Constraint(BaseModel):
    """What an answer must be; exactly one field is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    json_schema: SchemaText | None = None
    """JSON of this schema."""
    json_object: Literal[True] | None = None
    """A JSON object of any kind."""
    regex: Annotated[str, StringConstraints(min_length=1, max_length=MAX_REGEX_CHARS)] | None = None
    """A text that this expression matches from its beginning to its end (Rust's syntax, without look-around)."""
    choices: Annotated[tuple[ChoiceText, ...], Field(min_length=1, max_length=MAX_CHOICES)] | None = None
    """One of these texts."""
    grammar: Annotated[str, StringConstraints(min_length=1, max_length=MAX_GRAMMAR_CHARS)] | None = None
    """A text of this grammar in Lark's format, whose first rule is `start`."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.given) != 1:
            raise ValueError("give exactly one of json_schema, json_object, regex, choices and grammar")
        if self.json_schema is not None:
            _is_object(self.json_schema)
        if sum(map(len, self.choices or ())) > MAX_CHOICES_CHARS:
            raise ValueError(f"the choices have more than {MAX_CHOICES_CHARS} characters together")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The one field that has a value."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def kind(self) -> Kind:
        """The name of that field."""
        (kind,) = self.given
        return kind  # type: ignore[return-value]  # a field's name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self.given).encode()).hexdigest()
