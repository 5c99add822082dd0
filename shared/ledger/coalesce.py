"""Calls that threads make at the same moment travel as one: whoever comes first carries what the others have."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Coalescer(Generic[A, R]):
    """One round trip for all calls that came while the one before was under way.

    Every call of its own costs a thread five hand-overs of Python's lock and wakes the server up once more. A call that
    finds nobody on the way goes at once, in its caller's thread.
    """

    def __init__(self, carry: Callable[[Sequence[A]], Sequence[R | BaseException]]) -> None:
        """`carry` makes the round trip; it answers each call with a value or with what to raise."""
        self._carry = carry
        self._lock = threading.Lock()  # guards the two below
        self._waiting: list[_Waiting[A, R]] = []
        self._is_under_way = False

    def __call__(self, asked: A) -> R:
        """The answer to one call; raises what it was answered with."""
        mine: _Waiting[A, R] = _Waiting(asked)
        with self._lock:
            self._waiting.append(mine)
            has_to_wait, self._is_under_way = self._is_under_way, True
        if has_to_wait:
            mine.wait()
        if not mine.answers:
            self._go()
        answer = mine.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _go(self) -> None:
        """Carry all that waits, wake those it belongs to, and let the first that came meanwhile go next."""
        with self._lock:
            batch, self._waiting = self._waiting, []
        for waiting, answer in zip(batch, self._answers(batch), strict=True):
            waiting.answers.append(answer)
        with self._lock:
            following = self._waiting[:1]
            self._is_under_way = bool(following)
        for waiting in following + batch:
            waiting.wake()

    def _answers(self, batch: "list[_Waiting[A, R]]") -> Sequence[R | BaseException]:
        try:
            return self._carry([waiting.asked for waiting in batch])
        except BaseException as error:  # noqa: BLE001 - raised in each thread that asked; without it they wait for ever
            return [error] * len(batch)


class _Waiting(Generic[A, R]):
    """One call: its thread sleeps until another has carried it, or until it is the one to carry."""

    def __init__(self, asked: A) -> None:
        self.asked = asked
        self.answers: list[R | BaseException] = []
        """One, once it has been carried."""
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self) -> None:
        self._asleep.acquire()

    def wake(self) -> None:
        self._asleep.release()
