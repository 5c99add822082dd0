"""`response_format` of OpenAI's requests, and the constraint of our own jobs that it stands for."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.constraints import UNCONSTRAINED, SchemaText


class _Format(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextFormat(_Format):
    """Text of any kind, whatever the adapter comes with."""

    type: Literal["text"]

    @property
    def constraint(self) -> Any:
        """What our own jobs call it."""
        return UNCONSTRAINED


class ObjectFormat(_Format):
    """A JSON object."""

    type: Literal["json_object"]

    @property
    def constraint(self) -> Any:
        """What our own jobs call it."""
        return {"json_object": True}


class NamedSchema(_Format):
    """A schema with its name, which reaches no prompt, like its description."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$", max_length=64)]
    description: Annotated[str, Field(max_length=20_000)] | None = None
    text: Annotated[SchemaText, Field(alias="schema")]
    strict: bool | None = None
    """Answers keep to the schema also where it is false."""


class SchemaFormat(_Format):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    @property
    def constraint(self) -> Any:
        """What our own jobs call it."""
        return {"json_schema": self.json_schema.text}


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]
