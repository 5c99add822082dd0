"""Routes that know their caller before they read what is sent, and read JSON strictly."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.api.http.auth import Needs
from shared.contracts.json_objects import unique_keys


class KeyedRoute(APIRoute):
    """A route that checks the key first: the framework reads a body before it resolves the dependencies."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return the framework's handler behind the checks that its dependencies make."""
        handle = super().get_route_handler()
        checks = list(_checks(self.dependant))

        async def keyed(request: Request) -> Response:
            for check in checks:
                await check(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return keyed


class _StrictRequest(Request):
    """A request whose JSON has no key twice."""

    async def json(self) -> Any:
        return json.loads(await self.body(), object_pairs_hook=unique_keys)


def _checks(dependant: Dependant) -> Iterator[Needs]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Needs):
            yield dependency.call
        yield from _checks(dependency)
