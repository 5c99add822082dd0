"""Coalesces calls: calls that several threads make at the same moment share one round trip."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Coalescer(Generic[A, R]):
    """Collects the calls that arrive during one round trip, and sends them together in the next one.

    A separate round trip costs a thread five hand-overs of Python's lock, and wakes the server once more. A call that
    arrives while no round trip is under way is sent at once, in its caller's thread.
    """

    def __init__(self, send: Callable[[Sequence[A]], Sequence[R | BaseException]]) -> None:
        """`send` makes one round trip; it returns, for each request, a value or the exception to raise."""
        self._send = send
        self._lock = threading.Lock()  # guards the two below
        self._pending: list[_PendingCall[A, R]] = []
        self._is_under_way = False

    def __call__(self, request: A) -> R:
        """Return the reply to one request, or raise the exception that is its reply."""
        call: _PendingCall[A, R] = _PendingCall(request)
        with self._lock:
            self._pending.append(call)
            has_to_wait, self._is_under_way = self._is_under_way, True
        if has_to_wait:
            call.wait()
        if not call.replies:
            self._send_pending()
        reply = call.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _send_pending(self) -> None:
        """Send the pending calls and wake their threads; also wake the first later call, which sends the next batch."""
        with self._lock:
            batch, self._pending = self._pending, []
        for call, reply in zip(batch, self._replies(batch), strict=True):
            call.replies.append(reply)
        with self._lock:
            following = self._pending[:1]
            self._is_under_way = bool(following)
        for call in following + batch:
            call.wake()

    def _replies(self, batch: "list[_PendingCall[A, R]]") -> Sequence[R | BaseException]:
        try:
            return self._send([call.request for call in batch])
        except BaseException as error:  # noqa: BLE001 - raised in each calling thread, which would wait forever otherwise
            return [error] * len(batch)


class _PendingCall(Generic[A, R]):
    """One call; its thread sleeps until the reply is there, or until it has to send the next batch itself."""

    def __init__(self, request: A) -> None:
        self.request = request
        self.replies: list[R | BaseException] = []
        """One reply, once the call has been sent."""
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self) -> None:
        self._asleep.acquire()

    def wake(self) -> None:
        self._asleep.release()
