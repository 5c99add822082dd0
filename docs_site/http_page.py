"""The page of routes: what each does and which scopes open it, from the application itself."""

from collections.abc import Iterator
from typing import Any

from fastapi.routing import iter_route_contexts

from docs_site.tables import cell, code, page, table
from services.api.app import create_app
from services.api.http.auth import Needs
from shared.security.api_keys import Scope
from shared.settings import Settings

_HEAD = """
A running API shows every field at `/docs`, and the same as a file at `/openapi.json`. A request carries
`Authorization: Bearer sbk_…`; `admin` opens every route, and what else a scope allows says
[SECURITY](../../SECURITY.md#what-a-key-may-do). Errors: [error codes](errors.md). Chats in OpenAI's format:
[OpenAI's API](../openai.md); parameters of a job's answer: [the command](../commands.md#parameters-of-an-answer).
"""


def http_page() -> str:
    """Return the page."""
    app = create_app(Settings())
    scopes = dict(_scopes(app))
    by_tag: dict[str, list[tuple[str, str, str]]] = {}
    for path, methods in app.openapi()["paths"].items():
        for method, route in methods.items():
            said = route.get("description") or route["summary"]
            row = code(f"{method.upper()} {path}"), scopes.get((method.upper(), path), ""), cell(said)
            by_tag.setdefault(route.get("tags", ["system"])[0], []).append(row)
    sections = [f"## {tag}\n\n{table(['route', 'scopes', 'what it does'], rows)}" for tag, rows in by_tag.items()]
    return page("HTTP", "the routes of the API", [_HEAD, *sections])


def _scopes(app: Any) -> Iterator[tuple[tuple[str, str], str]]:
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        opened = _named([set(need._scopes) for need in _needs(dependant)]) if dependant else ""
        for method in route.methods or ():
            yield (method, (route.path or "").replace(":path}", "}")), opened


def _named(needs: list[set[Scope]]) -> str:
    """The scopes that open a route; empty where it asks for no key."""
    if not needs:
        return ""
    opening = set.intersection(*needs) - {Scope.ADMIN}
    if opening >= set(Scope) - {Scope.ADMIN}:
        return "any"
    return ", ".join(code(scope.value) for scope in Scope if scope in opening) or code("admin")


def _needs(dependant: Any) -> Iterator[Needs]:
    for one in dependant.dependencies:
        if isinstance(one.call, Needs):
            yield one.call
        yield from _needs(one)
