"""Keeps what callers write into tools and calls from becoming control tokens of a rendered chat template.

Such texts go through the template, since it writes them as JSON or otherwise. Before that, every character at which a
control token's name could begin or end is replaced, one to one, by a character that nobody wrote; afterwards these are
put back as pieces of user text, among which the tokenizer looks for no control token.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from shared.contracts.prompts import Part, Segment
from shared.contracts.templates import END, START, Frame, Hole
from shared.errors import Invalid

_STAND_INS = [chr(code) for code in range(0x13000, 0x13430)]
"""Egyptian hieroglyphs: printable letters without case, so that no filter of a template changes them."""
_ALWAYS = frozenset("<>[]|")


class Armour:
    """The replacement for one conversation."""

    def __init__(self, controls: Collection[str], written: str) -> None:
        """`controls` are the names of control tokens, `written` is all that the template or the caller wrote."""
        names = [name for name in (*controls, START, END) if name]
        borders = {side for name in names for side in (name[0], name[-1]) if not side.isalnum()} | _ALWAYS
        cores = {core for name in names if (core := _core(name))}
        signs = sorted(borders) + sorted({core[0] for core in cores} - borders)
        taken = set(written)
        free = (sign for sign in _STAND_INS if sign not in taken)
        self._there = dict(zip(signs, free, strict=False))
        if len(self._there) < len(signs):
            raise Invalid("tools_not_rendered", "the tools and calls hold every hieroglyph: leave some of them out")
        self._back = {stand_in: sign for sign, stand_in in self._there.items()}
        # A template may write the borders of a name around a text: then the text must not be what stands between them.
        words = "|".join(sorted(map(re.escape, cores), key=len, reverse=True))
        signs_of = "".join(map(re.escape, sorted(borders)))
        self._exposed = re.compile(rf"[{signs_of}]" + (rf"|(?<!\w)(?:{words})(?!\w)" if words else ""))
        self._worn = re.compile(f"([{''.join(self._back)}]+)")

    def on(self, value: Any) -> Any:
        """Return texts, and all texts within lists and objects, with their replacements."""
        if isinstance(value, str):
            return self._exposed.sub(lambda found: self._there[found[0][0]] + found[0][1:], value)
        if isinstance(value, list):
            return [self.on(one) for one in value]
        if isinstance(value, dict):
            return {self.on(name): self.on(one) for name, one in value.items()}
        return value

    def off(self, frame: Frame) -> Frame:
        """Return a frame whose replaced characters are user text again, as they were written."""
        return tuple(part for piece in frame for part in self._off(piece))

    def _off(self, piece: Segment | Hole) -> Iterator[Segment | Hole]:
        if isinstance(piece, Hole) or piece.part is not Part.TEMPLATE:
            yield piece
            return
        for number, text in enumerate(self._worn.split(piece.text)):
            if number % 2:
                text = "".join(self._back[sign] for sign in text)  # noqa: PLW2901
                yield Segment(Part.USER, text, is_joined=piece.is_joined)
            elif text:
                yield piece._replace(text=text)


def _core(name: str) -> str:
    """What of a name stands between signs: `im_end` of `<|im_end|>`."""
    found = re.search(r"\w(?:.*\w)?", name, re.DOTALL)
    return found[0] if found else ""
