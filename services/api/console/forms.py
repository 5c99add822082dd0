"""Forms and filters as a page sends them, and what is wrong with them as an answer."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError


@contextlib.contextmanager
def said_of_the_form() -> Iterator[None]:
    """Answer with what is wrong where a request that is made of a form is not valid."""
    try:
        yield
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error


def number(sent: Any, of: type[int] | type[float]) -> Any:
    """Return a number; what is none is left for the request's own check to refuse."""
    try:
        return of(str(sent))
    except ValueError:
        return sent
