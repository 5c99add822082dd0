"""Requests about webhooks, in OpenAI's form."""

from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, Field, StringConstraints

from services.api.jobs.schemas import Request
from shared.contracts.webhooks import EVENTS, TEST_EVENT, WANTED


def _is_wanted(name: str) -> str:
    if name not in WANTED:
        raise ValueError(f"there is no event {name!r}: GET /v1/webhook_event_types lists them; job.* and * are more")
    return name


def _is_event(name: str) -> str:
    if name not in {*EVENTS, TEST_EVENT}:
        raise ValueError(f"there is no event {name!r}: GET /v1/webhook_event_types lists them")
    return name


EventName = Annotated[str, StringConstraints(max_length=64)]
Events = Annotated[list[Annotated[EventName, AfterValidator(_is_wanted)]], Field(min_length=1, max_length=len(WANTED))]
Name = Annotated[str, StringConstraints(max_length=128)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
EndpointLimit = Annotated[int, Query(ge=1, le=100)]


class CreateWebhook(Request):
    """A new endpoint."""

    url: Url
    event_types: Events
    """Names of events; `job.*` stands for all of a family, `*` for all."""
    name: Name = ""


class UpdateWebhook(Request):
    """What an endpoint should have in place of what it has."""

    url: Url | None = None
    event_types: Events | None = None
    name: Name | None = None
    enabled: bool | None = None
    """A disabled endpoint is told of nothing new; what waits for it goes on if it is enabled within three days."""


class RotateSecret(Request):
    """How a secret is replaced."""

    keep_old_secret_active_for_24_hours: bool = True
    """Whether the old one signs beside the new one for a day; not where somebody else may know it."""


class TestWebhook(Request):
    """What to send."""

    event_type: Annotated[EventName, AfterValidator(_is_event)] = TEST_EVENT
