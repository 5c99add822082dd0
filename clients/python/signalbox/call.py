"""A call of the API: its request, and how its answer is read."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from signalbox.requests import IDEMPOTENCY_KEY, Request, not_of_the_api
from signalbox.results import Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how the JSON of its answer becomes a result."""

    request: Request
    parse: Callable[[Any], T]

    def result(self, raw: Any) -> T:
        """What the answer's JSON says; raises `ApiError` where it is not of this API."""
        try:
            return self.parse(raw)
        except (TypeError, AttributeError, LookupError) as error:
            raise not_of_the_api(self.request.path) from error


def posted(path: str, body: Any, idempotency_key: str | None) -> Request:
    """A POST of JSON with an Idempotency-Key, so that it can be retried."""
    return Request("POST", path, json=body, headers={IDEMPOTENCY_KEY: idempotency_key or new_key()})


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return uuid.uuid4().hex


def given(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in body.items() if value is not None}


def items(kind: type[R]) -> Callable[[Any], list[R]]:
    """Reads a list of results."""
    return lambda raw: [kind.from_dict(item) for item in raw["items"]]
