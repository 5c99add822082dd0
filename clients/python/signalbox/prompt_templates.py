"""Calls about prompt templates."""

from typing import Any

from signalbox.call import Call, new_key
from signalbox.requests import IDEMPOTENCY_KEY, Request
from signalbox.results import Template


def templates() -> Call[list[Template]]:
    """All prompt templates: those that are built in, then those that operators added."""
    return Call(Request("GET", "/v1/templates"), lambda raw: [Template.from_dict(item) for item in raw["items"]])


def template(name: str) -> Call[Template]:
    """One prompt template with all its fields."""
    return Call(Request("GET", f"/v1/templates/{name}"), Template.from_dict)


def add_template(name: str, *, idempotency_key: str | None = None, **fields: Any) -> Call[Template]:
    """Add a named prompt template: `jinja`, or the frames of turns; the API's page `/docs` lists the fields."""
    headers = {IDEMPOTENCY_KEY: idempotency_key or new_key()}
    request = Request("POST", "/v1/templates", json={"name": name, **fields}, headers=headers)
    return Call(request, Template.from_dict)


def delete_template(name: str) -> Call[None]:
    """Delete a template that no adapter, release or unfinished training names."""
    return Call(Request("DELETE", f"/v1/templates/{name}"), lambda _: None)
