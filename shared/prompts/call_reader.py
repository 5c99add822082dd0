"""Reads the calls of an answer while its text comes; what may become a call is held back until that is clear.

A text that looks like a call but is no JSON, or names no tool that was offered, stays text.
"""

import json
import re
from collections.abc import Callable, Collection
from enum import Enum, auto

from pydantic import ValidationError

from shared.contracts.tools import Called
from shared.prompts.call_form import CallForm

Found = str | Called


class _At(Enum):
    START = auto()
    """Nothing was said: calls without a mark can only begin here."""
    TEXT = auto()
    CALL = auto()
    """Behind what opens a call, or parts two: its object comes."""
    AFTER = auto()
    """Behind an object: another one, or the end of calls."""


class CallReader:
    """Reads one answer; texts and calls come in their order, each once."""

    def __init__(self, form: CallForm, names: Collection[str]) -> None:
        """`names` are those of the tools that were offered."""
        self._form = form
        self._names = names
        self._opening = _Sign(form.opening)
        self._between = _Sign(form.between)
        self._closing = _Sign(form.closing)
        self._at = _At.TEXT if form.is_marked else _At.START
        self._held = ""
        self._opened = self._body = 0
        """In the held text, where what opens a call ends, and where its object begins."""
        self._scan = _Scan()
        self._has_called = False

    def push(self, text: str) -> list[Found]:
        """Add text; returns what is clear now."""
        self._held += text
        return self._read(is_over=False)

    def end(self) -> list[Found]:
        """Return what was held back, since no more text follows."""
        return self._read(is_over=True)

    def _read(self, *, is_over: bool) -> list[Found]:
        step: dict[_At, Callable[[list[Found], bool], bool]] = {
            _At.START: self._start,
            _At.TEXT: self._text,
            _At.CALL: self._call,
            _At.AFTER: self._after,
        }
        found: list[Found] = []
        while step[self._at](found, is_over):
            pass
        return [one for one in found if one != ""]

    # Each step takes what it can of the held text, and returns whether another one has something to do.

    def _start(self, _found: list[Found], is_over: bool) -> bool:
        text = self._held.lstrip()
        end = self._opening.end_of(text)
        if end is not None and text[end:].lstrip():
            self._begin_call(len(self._held) - len(text) + end)
            return True
        if not is_over and (end is not None or self._opening.may_begin(text)):
            return False
        self._at = _At.TEXT
        return True

    def _text(self, found: list[Found], is_over: bool) -> bool:
        opening = self._opening.search(self._held) if self._form.is_marked else None
        if opening:
            said = len(self._held[: opening.start()].rstrip())  # white space before a call belongs to it
            found.append(self._take(said))
            self._begin_call(opening.end() - said)
            return True
        rest = self._take(len(self._held) if is_over else self._clear())
        found.append(rest if rest.strip() or not self._has_called else "")
        return False

    def _call(self, found: list[Found], is_over: bool) -> bool:
        while self._body < len(self._held) and self._held[self._body].isspace():
            self._body += 1
        is_object = self._held.startswith("{", self._body)
        end = self._scan.end_of(self._held, self._body) if is_object else None
        if end is None and (is_object or self._body == len(self._held)):
            if is_over:
                found.append(self._take(len(self._held)))
            return False
        called = self._called(self._held[self._body : end]) if end else None
        if called is None:  # what opened the call is text, and what follows is read again
            found.append(self._take(self._opened))
            self._at = _At.TEXT
            return True
        self._take(end or 0)
        found.append(called)
        self._has_called = True
        self._at = _At.AFTER
        return True

    def _after(self, _found: list[Found], is_over: bool) -> bool:
        text = self._held.lstrip()
        skipped = len(self._held) - len(text)
        if end := self._closing.end_of(text):
            self._take(skipped + end)
            self._at = _At.TEXT
            return True
        end = self._between.end_of(text) if self._form.between or text.startswith("{") else None
        if end is not None:
            self._begin_call(skipped + end)
            return True
        if self._closing.may_begin(text) or self._between.may_begin(text):
            self._held = "" if is_over else self._held
            return False
        self._at = _At.TEXT
        return True

    def _begin_call(self, at: int) -> None:
        self._at, self._opened, self._body, self._scan = _At.CALL, at, at, _Scan()

    def _take(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text

    def _clear(self) -> int:
        """How much of the held text becomes no call."""
        doubtful = self._opening.doubtful(self._held) if self._form.is_marked else len(self._held)
        return len(self._held[:doubtful].rstrip()) if self._form.is_marked else doubtful

    def _called(self, text: str) -> Called | None:
        """The call that an object is; None where it is none."""
        try:
            said = json.loads(text, strict=False)
            arguments = said.get(self._form.arguments_key, {})
            if isinstance(arguments, str):
                arguments = json.loads(arguments)
            name = said.get(self._form.name_key)
            written = json.dumps(arguments, ensure_ascii=False)
            return Called(name=name, arguments=written) if name in self._names else None
        except (ValueError, TypeError, AttributeError, RecursionError, ValidationError):
            return None


class _Sign:
    """What stands around calls, with any white space between its words."""

    def __init__(self, text: str) -> None:
        words = text.split()
        whole = r"\s*+".join(map(re.escape, words))
        self._whole, self._leading = re.compile(whole), re.compile(rf"\A{whole}")
        letters = [
            rf"\s*+{re.escape(word[0])}" if at == 0 else re.escape(word[at])
            for word in words
            for at in range(len(word))
        ]
        part = ""
        for letter in reversed(letters[1:]):
            part = f"(?:{letter}{part})?+"
        first = re.escape(words[0][0]) if words else r"(?!)"
        self._part = re.compile(rf"{first}{part}\s*+\Z")

    def search(self, text: str) -> re.Match[str] | None:
        return self._whole.search(text)

    def end_of(self, text: str) -> int | None:
        """Where the sign ends that the text begins with."""
        found = self._leading.search(text)
        return found.end() if found else None

    def doubtful(self, text: str) -> int:
        """Where the end of a text begins that may become the sign; its length where there is none."""
        found = self._part.search(text)
        return found.start() if found else len(text)

    def may_begin(self, text: str) -> bool:
        """Whether the text is a part of the sign, from its beginning on; an empty one is."""
        return not text or self._part.fullmatch(text) is not None


class _Scan:
    """Finds the end of a JSON object in a text that grows, and looks at each character once."""

    _SIGNS = re.compile(r'["\\{}\[\]]')

    def __init__(self) -> None:
        self._seen = 0
        self._depth = 0
        self._in_string = False

    def end_of(self, text: str, begin: int) -> int | None:
        """Return where the object ends that begins at this place; None where it does not yet."""
        at = max(self._seen, begin)
        while found := self._SIGNS.search(text, at):
            at = found.end()
            sign = found[0]
            if sign == "\\":
                at += self._in_string  # the next character is escaped, whatever it is
            elif sign == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if sign in "{[" else -1
                if not self._depth:
                    return at
        self._seen = max(at, len(text))
        return None
