"""Server-sent events (WHATWG HTML, 9.2): the parser, and a job's stream that survives lost connections."""

import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from signalbox.errors import SignalboxError, WaitTimeout
from signalbox.requests import Request
from signalbox.results import Event

T = TypeVar("T")
GIVE_UP_SECONDS = 60.0
RESUME_SECONDS = 0.2
_READ_SECONDS = 60.0
"""The API sends a comment every few seconds, so a connection that is silent this long is dead."""
_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines ends lines at U+2028 and others too, which JSON may hold


class EventParser:
    """Turns the text of one connection, cut anywhere, into events."""

    def __init__(self) -> None:
        self._rest = ""
        self._fields: dict[str, str] = {}

    def feed(self, text: str) -> Iterator[Event]:
        """The events that are whole with this piece of text."""
        for fields in self.fields(text):
            data = json.loads(fields["data"])
            yield Event(type=fields.get("event", "message"), data=data, id=fields.get("id", ""))

    def fields(self, text: str) -> Iterator[Mapping[str, str]]:
        """The fields of these events, each of which has `data`."""
        for line in self._lines(text):
            if line:
                self._add(line)
                continue
            fields, self._fields = self._fields, {}
            if "data" in fields:
                yield fields

    def _lines(self, text: str) -> list[str]:
        whole = self._rest + text
        held_back = "\r" if whole.endswith("\r") else ""  # the other half of a line end may follow
        *lines, rest = _LINE_END.split(whole.removesuffix("\r") if held_back else whole)
        self._rest = rest + held_back
        return lines

    def _add(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in self._fields:
            value = f"{self._fields['data']}\n{value}"
        if name:  # a line that begins with a colon is a comment
            self._fields[name] = value


class Stream(ABC, Generic[T]):
    """Where a stream stands: how to open it again, and when it is over. Times are seconds of `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.is_over = False
        self.pause_seconds = RESUME_SECONDS
        """Before the next connection."""
        self._clock = clock
        self._failing_since: float | None = None

    @abstractmethod
    def open(self) -> Request:
        """The request of the next connection."""

    @abstractmethod
    def feed(self, text: str) -> Iterator[T]:
        """What a piece of text tells."""

    @abstractmethod
    def close(self) -> None:
        """The server ended the connection in order."""

    def fail(self, error: SignalboxError) -> None:
        """The connection was lost or refused; raises the error where another one would not help."""
        self._failing_since = self._failing_since or self._clock()
        if not error.retryable or self._clock() - self._failing_since > GIVE_UP_SECONDS:
            raise error
        self.pause_seconds = max(RESUME_SECONDS, error.retry_after_seconds or 0.0)


class EventStream(Stream[Event]):
    """Where a job's stream stands: how to open it again, and when it is over.

    It is over when the server has closed it in order after a final event. A `deadline` is in seconds of `clock`.
    """

    def __init__(
        self,
        path: str,
        after: str = "",
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._path = path
        self._last_id = after
        self._deadline = deadline
        self._parser = EventParser()
        self._has_ended = False
        self._is_empty = self._was_empty = False

    def open(self) -> Request:
        """The request of the next connection, which goes on after the last event; raises `WaitTimeout`."""
        self._check_deadline()
        self._parser = EventParser()
        self._was_empty, self._is_empty = self._is_empty, True
        left = _READ_SECONDS if self._deadline is None else self._deadline - self._clock()
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        return Request("GET", self._path, headers=headers, timeout_seconds=min(_READ_SECONDS, left))

    def feed(self, text: str) -> Iterator[Event]:
        """The events of a piece of text; raises `WaitTimeout`."""
        self._check_deadline()
        for event in self._parser.feed(text):
            self._last_id = event.id or self._last_id
            self._failing_since, self._is_empty = None, False
            if event.type == "state":
                self._has_ended = event.is_final
            yield event

    def close(self) -> None:
        """The server ended the connection in order: after the job's end, or because it stops.

        Nothing at all, twice in a row, is the stream of a job that has ended before.
        """
        self.is_over = self._has_ended or (self._is_empty and self._was_empty)
        self.pause_seconds = RESUME_SECONDS

    def fail(self, error: SignalboxError) -> None:
        """The connection was lost or refused; raises the error where another one would not help."""
        self._check_deadline()
        super().fail(error)

    def _check_deadline(self) -> None:
        if self._deadline is not None and self._clock() >= self._deadline:
            raise WaitTimeout("wait_timeout", "the job did not end in time; it goes on: wait again, or cancel it")
