"""Remembers the frames of conversations with tools: few of them repeat, and each holds all that its tools say."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from shared.contracts.templates import Frame, Hole
from shared.errors import Invalid

MOST_CHARS = 4 << 20
_FRAME, _PIECE = 4096, 64
"""What a frame and each of its pieces count besides their text, in characters."""


class FrameCache:
    """Frames, or the errors in their place; those used last stay."""

    def __init__(self, most_chars: int = MOST_CHARS) -> None:
        self._most = most_chars
        self._lock = threading.Lock()  # guards the two below
        self._kept: OrderedDict[Hashable, tuple[Frame | Invalid, int]] = OrderedDict()
        self.chars = 0

    def of(self, key: Hashable, make: Callable[[], Frame | Invalid]) -> Frame | Invalid:
        """Return the frame of a key; `make` makes it where it is not known."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        size = _size(made)
        with self._lock:
            if key not in self._kept and size <= self._most:
                self._kept[key] = made, size
                self.chars += size
            while self.chars > self._most:
                self.chars -= self._kept.popitem(last=False)[1][1]
        return made


def _size(made: Frame | Invalid) -> int:
    pieces = () if isinstance(made, Invalid) else made
    return _FRAME + sum(_PIECE + (0 if isinstance(piece, Hole) else len(piece.text)) for piece in pieces)
