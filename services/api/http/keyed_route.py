"""Routes that know their caller before they read what he sends."""

from collections.abc import Awaitable, Callable, Iterator

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.api.http.auth import Needs


class KeyedRoute(APIRoute):
    """A route that checks the key first: the framework reads a body before it resolves the dependencies."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return the framework's handler behind the checks that its dependencies make."""
        handle = super().get_route_handler()
        checks = list(_checks(self.dependant))

        async def keyed(request: Request) -> Response:
            for check in checks:
                await check(request)
            return await handle(request)

        return keyed


def _checks(dependant: Dependant) -> Iterator[Needs]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Needs):
            yield dependency.call
        yield from _checks(dependency)
