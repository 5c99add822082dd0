"""Bounds on connections, kept by the server itself: how many, from where, how long, and how large a head may be."""

import asyncio
import http
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from weakref import WeakValueDictionary

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.api.http.problems import HeaderTooLarge, TooSlow, respond
from services.api.http.security_headers import SECURITY_HEADERS
from shared.errors import SignalboxError, Unavailable
from shared.settings import Settings

MAX_HEADER_BYTES = 64 << 10
MAX_PIPELINED = 16


class Places:
    """Connections that count together; where all places are taken, who waits longest for a request gives its own up."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken: set[Connection] = set()
        self.waiting: dict[Connection, None] = {}
        """Those without a request in progress, the longest first."""

    def has_room(self) -> bool:
        """Whether there is a place, if need be one that was just given up."""
        if len(self.taken) >= self._most and self.waiting:
            next(iter(self.waiting)).refuse(FULL)
        return len(self.taken) < self._most


class Bounds:
    """The limits of one server, and the places that its connections hold."""

    def __init__(self, settings: Settings, count: Callable[[int, str], None]) -> None:
        self.header_seconds = settings.header_seconds
        self.idle_seconds = settings.idle_seconds
        self.count = count
        self._most_per_address = settings.max_connections_per_address
        self._trusted = settings.trusted_networks
        self._all = Places(settings.max_connections)
        self._by_address: WeakValueDictionary[str, Places] = WeakValueDictionary()

    def places_for(self, client: tuple[str, int] | None) -> tuple[Places, ...]:
        """Return what a connection of this client counts among: all connections, and those of its address."""
        address = _address(client)
        if address is None or any(address in network for network in self._trusted):
            return (self._all,)
        places = self._by_address.setdefault(_site(address), Places(self._most_per_address))
        return (self._all, places)


class Connection(HttpToolsProtocol):
    """One connection: its client owes the head of a request, then its body, then to take the answer."""

    def __init__(self, *args: Any, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._places: tuple[Places, ...] = ()
        self._room = MAX_HEADER_BYTES
        self._waits_since = self._heard_at = self._taken_at = time.monotonic()
        self._unsent = 0
        self._has_begun = False
        """Whether a part of the next request's head has come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or refuse."""
        super().connection_made(transport)
        places = self._bounds.places_for(self.client)
        if not all(place.has_room() for place in places):
            self.refuse(FULL)
            return
        self._places = places
        for place in places:
            place.taken.add(self)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser no more than the room for a head at once; what it gives on makes room again."""
        self._heard_at = time.monotonic()
        while data and not self.transport.is_closing():
            piece, data = data[: self._room], data[self._room :]
            self._room -= len(piece)
            super().data_received(piece)
            if not self._room and not self.transport.is_closing():
                self.refuse(HEADER_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._has_begun = False
        self._room = MAX_HEADER_BYTES
        for place in self._places:
            place.waiting.pop(self, None)
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            raise httptools.HttpParserError("too many requests before the first answer")

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._room = MAX_HEADER_BYTES
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has come already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait()

    def refuse(self, error: SignalboxError) -> None:
        """Say why, unless an answer is under way, and close; the place is free at once."""
        self._leave()
        self._bounds.count(error.status, error.code)
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(ANSWERS[error])
        self.transport.close()

    def look(self, now: float) -> None:
        """End this connection where its client owes something for too long; called about once a second."""
        if self._owes_taking(now):
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._is_waiting:
            if now - self._waits_since > self._bounds.header_seconds:
                self._end_waiting()
        elif self._owes_body(now):
            self.transport.abort()

    @property
    def _is_waiting(self) -> bool:
        return any(self in place.waiting for place in self._places)

    def _end_waiting(self) -> None:
        if self._has_begun:
            self.refuse(TOO_SLOW)
        else:
            self.transport.close()

    def _owes_body(self, now: float) -> bool:
        """Whether a piece of the body is overdue: nobody holds it back, neither for want of room nor of consent."""
        if self.flow.read_paused or self.cycle.waiting_for_100_continue or not self.cycle.more_body:
            self._heard_at = now
        return now - self._heard_at > self._bounds.idle_seconds

    def _owes_taking(self, now: float) -> bool:
        """Whether the client has taken nothing of the answer for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._taken_at = now
        self._unsent = unsent
        return bool(unsent) and now - self._taken_at > self._bounds.idle_seconds

    def _wait(self) -> None:
        self._waits_since = time.monotonic()
        for place in self._places:
            place.waiting[self] = None

    def _leave(self) -> None:
        for place in self._places:
            place.taken.discard(self)
            place.waiting.pop(self, None)
        self._places = ()


def _address(client: tuple[str, int] | None) -> IPv4Address | IPv6Address | None:
    if client is None:
        return None
    address = ip_address(client[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _site(address: IPv4Address | IPv6Address) -> str:
    """Return what counts as one address: of IPv6 the /64, which one host may have all of."""
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))


def _as_bytes(error: SignalboxError) -> bytes:
    response = respond(error, SECURITY_HEADERS | {"Connection": "close"})
    head = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}".encode()]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body)


FULL = Unavailable("too_many_connections", "too many connections are open; use fewer, or try again shortly")
HEADER_TOO_LARGE = HeaderTooLarge(
    "headers_too_large", f"the request's line and headers take more than {MAX_HEADER_BYTES} bytes; send less of them"
)
TOO_SLOW = TooSlow("request_too_slow", "the request's headers did not arrive in time; send it again, at once")
ANSWERS: dict[SignalboxError, bytes] = {error: _as_bytes(error) for error in (FULL, HEADER_TOO_LARGE, TOO_SLOW)}
"""Made once: a flood of refusals should cost little."""
