"""Turns the framework's plain-text 413 into a problem; the framework enforces the limit."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.http.problems import TooLarge, respond


class ExplainTooLarge:
    """ASGI middleware that wraps the routes' body limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; replace a plain-text 413."""
        is_replaced = False

        async def explained(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and _is_bare_413(message):
                is_replaced = True
                await _problem()(scope, receive, send)
            elif not is_replaced:
                await send(message)

        await self._app(scope, receive, explained)


def _is_bare_413(message: Message) -> bool:
    is_plain = any(name == b"content-type" and value.startswith(b"text/plain") for name, value in message["headers"])
    return bool(message["status"] == 413 and is_plain)


def _problem() -> ASGIApp:
    return respond(TooLarge("body_too_large", "the body is above the limit; send less, or in several requests"))
