"""What forms of pages say, read by the same models as the bodies of JSON routes."""

from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def checked(kind: TypeAdapter[T], body: dict[str, Any]) -> T:
    """Return the body as its model; raises what a route raises where it is wrong."""
    try:
        return kind.validate_python(body)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error
