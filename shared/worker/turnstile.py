"""Lets a process's threads take jobs, or holds them back while it can do none."""

import threading


class Turnstile:
    """A message that comes while it is closed waits; the ledger's reconciler sends another one to other processes."""

    def __init__(self) -> None:
        self._change = threading.Condition()  # guards the three below
        self._is_ended = False
        self.why = ""
        """Why no job is taken; empty while jobs are."""
        self.is_broken = False
        """Whether it ended because only a new process helps."""

    def close(self, why: str) -> None:
        """Hold back who comes from now on."""
        with self._change:
            if not self._is_ended:
                self.why = why

    def open(self) -> None:
        """Let pass who waits and who comes."""
        with self._change:
            if not self._is_ended:
                self.why = ""
                self._change.notify_all()

    def end(self, why: str = "", *, is_broken: bool = False) -> None:
        """Send away who waits: the process ends. While it is open, who comes passes on, unless it is broken."""
        with self._change:
            self._is_ended = True
            self.why = self.why or why
            self.is_broken = self.is_broken or is_broken
            self._change.notify_all()

    def passes(self) -> bool:
        """Wait until it is open; returns whether a job may be taken."""
        with self._change:
            self._change.wait_for(lambda: not self.why or self._is_ended)
            return not self.why
