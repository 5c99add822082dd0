"""Turns token ids into text that can be streamed: whole characters only, and no part of a stop string."""

from collections.abc import Callable, Sequence

_HALF_CHARACTER = "\ufffd"


class Detokenizer:
    """Turns ids into text piece by piece; a piece never ends inside a UTF-8 character."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        # Ids before `_context` are finished; those from there to `_shown` are emitted but still influence how the next
        # ids decode (a tokenizer may drop or add a space at the start of a text).
        self._context = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """Add a token; returns the text that it completes, which may be empty."""
        self._ids.append(token)
        return self._take(final=False)

    def flush(self) -> str:
        """Return what is left at the end; bytes that never became a character come as U+FFFD."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._context : self._shown])
        after = self._decode(self._ids[self._context :])
        if len(after) <= len(before) or (after.endswith(_HALF_CHARACTER) and not final):
            return ""
        self._context, self._shown = self._shown, len(self._ids)
        return after[len(before) :]


class StopScanner:
    """Holds back text that may begin a stop string, and cuts the text at a complete one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Add text; returns what is safe to emit, and sets `hit` once a stop string is complete."""
        if self.hit:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.hit = True
            return self._release(min(found))
        return self._release(len(self._held) - self._doubtful())

    def flush(self) -> str:
        """Return the text held back, because no more text follows."""
        return "" if self.hit else self._release(len(self._held))

    def _release(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text

    def _doubtful(self) -> int:
        """Length of the longest suffix of the held text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        return next((n for n in range(min(longest, len(self._held)), 0, -1) if self._begins_stop(n)), 0)

    def _begins_stop(self, count: int) -> bool:
        return any(stop.startswith(self._held[-count:]) for stop in self._stops)
