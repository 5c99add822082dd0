"""Forms and filters as a page sends them, read by the same models as the bodies of JSON routes."""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


@contextlib.contextmanager
def said_of_the_form() -> Iterator[None]:
    """Raise what a route raises where a request that is made of a form is not valid."""
    try:
        yield
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error


def checked(kind: TypeAdapter[T], body: dict[str, Any]) -> T:
    """Return the body as its model; raises what a route raises where it is wrong."""
    with said_of_the_form():
        return kind.validate_python(body)


def number(sent: Any, of: type[int] | type[float]) -> Any:
    """Return a number; what is none is left for the request's own check to refuse."""
    try:
        return of(str(sent))
    except ValueError:
        return sent
