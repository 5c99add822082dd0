"""Uploads: a few at a time, each read only when it is its turn, at no less than a fair pace."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Message

from services.api.http.auth import ClientsDep
from services.api.http.problems import TooSlow

GRACE_SECONDS = 60.0
FORM_BYTES = 64 << 10
"""For the form fields around an uploaded file."""
BYTES_PER_SECOND = 32 << 10
"""What a body must come at, on average after the grace: others wait for its place."""


async def upload(request: Request, clients: ClientsDep) -> AsyncIterator[Request]:
    """Wait for a place; yields the request, whose body raises `TooSlow` where it holds the place for too little."""
    async with clients.uploads:
        yield Request(request.scope, _Paced(request).receive)


class _Paced:
    """The messages of a request's body, as long as they come in time."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._began = time.monotonic()
        self._count = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._count += len(message.get("body", b""))
        owed = (time.monotonic() - self._began - GRACE_SECONDS) * BYTES_PER_SECOND
        if self._count < owed and message.get("more_body"):
            raise TooSlow("upload_too_slow", f"the upload came at less than {BYTES_PER_SECOND} bytes/s; split the file")
        return message


Upload = Annotated[Request, Depends(upload)]
