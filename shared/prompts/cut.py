"""Finds a chat template's frame: it is rendered with marked texts, and cut where they stand.

What a template does with texts beside leaving out white space around them is refused, but for these rules of families,
which it may follow: Gemma has no role `system`, and Mistral moves or loses its text, so the instruction goes in front
of the first user turn; Qwen3 leaves out what an earlier answer says before `</think>`, and with it the line breaks
after it (DeepSeek-R1 keeps these); Llama 3.1 writes what tools answer as JSON, and like Mistral leaves out what an
answer says beside its calls. Tools and calls belong to the frame: what they hold is written by the template.
"""

import itertools
import re
import secrets
import string
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from shared.contracts.conversation import INSTRUCTING, Message, Role
from shared.contracts.templates import Frame, Hole, ToolsNotRendered, segmented, within_json
from shared.contracts.tools import Tool
from shared.errors import Invalid
from shared.prompts.armour import Armour
from shared.prompts.rendering import ChatMessages, ChatTemplate, Conversation, Rendered, rendered
from shared.prompts.uses import Uses

_BODY = f" {string.printable.strip()}\n\n\ttwo  blanks é 字 ☃ &amp; {{{{ x }}}} % # \\n " * 16
"""Texts that a template would show its hand with: every ASCII sign, others, white space, 2,000 characters."""
_PAD_LEFT, _PAD_RIGHT = " \n\t \t", "\t \t\n "
_THOUGHT = "<think>\nlet me see\n</think>\n\n"
_BETWEEN = "\n\n"


class Shape(NamedTuple):
    """What the frame of a conversation depends on: the role of each turn, and whether its text is white space alone.

    Where it has tools, all that they and the calls hold belongs to it.
    """

    roles: tuple[Role, ...]
    blanks: tuple[bool, ...]
    uses: Uses | None = None

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> "Shape":
        """Return the shape of a conversation; a developer is a system, and an empty instruction is none."""
        roles = tuple("system" if turn.role in INSTRUCTING else turn.role for turn in messages)
        return cls(roles, tuple(not turn.text.strip() for turn in messages), Uses.of(messages, tools))

    @property
    def turns(self) -> list[int]:
        """The numbers of turns that the template is shown: all but an empty instruction."""
        has_empty_instruction = self.roles[0] == "system" and self.blanks[0]
        return list(range(len(self.roles)))[has_empty_instruction:]


class _Marks:
    """The texts that stand for those of a conversation: a random mark at both ends of each."""

    def __init__(self, shape: Shape, armour: Armour | None) -> None:
        self._nonce = secrets.token_hex(8)
        self._shape = shape
        self._armour = armour
        self.tools = shape.uses.tools_in(armour) if shape.uses and armour else []

    def text(self, turn: int) -> str:
        return f"[{self._nonce} {turn} begins]{_BODY}[{self._nonce} {turn} ends]"

    def beginning(self, turn: int) -> str:
        return f"[{self._nonce} {turn} begins]"

    def padded(self, turn: int) -> str:
        return f"{_PAD_LEFT}{self.text(turn)}{_PAD_RIGHT}"

    def is_answer(self, turn: int) -> bool:
        return self._shape.roles[turn] == "assistant"

    def thoughtful(self, turn: int) -> str:
        return f"{_THOUGHT}{self.text(turn)}" if self.is_answer(turn) else self.padded(turn)

    def messages(self, turns: Sequence[int], *, thoughtful: bool = False) -> ChatMessages:
        write = self.thoughtful if thoughtful else self.padded
        return [
            {
                "role": self._shape.roles[turn],
                "content": "" if self._shape.blanks[turn] else write(turn),
                **self._uses(turn),
            }
            for turn in turns
        ]

    def _uses(self, turn: int) -> dict[str, Any]:
        uses = self._shape.uses
        return uses.fields_of(turn, self._armour) if uses and self._armour else {}

    def shown(self, turns: Sequence[int]) -> list[int]:
        """Those of the turns that have a text."""
        return [turn for turn in turns if not self._shape.blanks[turn]]

    def may_lack(self, turn: int) -> bool:
        """Whether a template may leave the text of this turn out: beside calls there is often no place for it."""
        return bool(self._shape.uses and self._shape.uses.calls[turn])


def frame_of(template: ChatTemplate, shape: Shape, name: str, controls: Collection[str] = ()) -> Frame:
    """Return the frame that a chat template has for conversations of this shape; raises `Invalid`, `Unavailable`.

    `controls` are the names of the vocabulary's control tokens, which no tool and no call may write.
    """
    armour = Armour(controls, template.jinja + shape.uses.written) if shape.uses else None
    marks = _Marks(shape, armour)
    has_system = shape.roles[shape.turns[0]] == "system"
    plans = [_Plan(shape.turns, marks), *([_Plan(shape.turns[1:], marks)] if has_system else [])]
    thinks = "think" in template.jinja and "assistant" in shape.roles
    shown = [plan.conversations(thinks=thinks) for plan in plans]
    found = iter(rendered(template, [one for several in shown for one in several]))
    by_plan = [list(itertools.islice(found, len(several))) for several in shown]
    frame = segmented(_whole_or_folded(plans, by_plan, name))
    return armour.off(frame) if armour else frame


class _Plan:
    """The turns that a template is shown at once, and what it makes of them."""

    def __init__(self, turns: Sequence[int], marks: _Marks) -> None:
        self._turns = turns
        self._marks = marks

    def conversations(self, *, thinks: bool) -> list[Conversation]:
        """Return it as it is; where answers may hold thoughts, with some; where it has tools, without them."""
        tools, marks, turns = self._marks.tools, self._marks, self._turns
        whole = [Conversation(marks.messages(turns), tools)]
        thoughtful = [Conversation(marks.messages(turns, thoughtful=True), tools)] if thinks else []
        return [*whole, *thoughtful, *([Conversation(marks.messages(turns))] if tools else [])]

    def pieces(self, found: Sequence[Rendered], name: str) -> list[str | Hole]:
        """Return what its conversations were rendered to, cut at the texts; raises `Invalid`."""
        marks, (plain, *others) = self._marks, found
        pieces = _cut(_text(plain, name), marks, marks.shown(self._turns), name)
        if marks.tools:
            without = others.pop().text
            names = [tool["function"]["name"] for tool in marks.tools]
            if any(plain.text.count(one) <= without.count(one) for one in names):
                raise ToolsNotRendered(name)
        return _with_thinking(pieces, _text(others[0], name), marks, name) if others else pieces


def _whole_or_folded(plans: Sequence[_Plan], found: Sequence[Sequence[Rendered]], name: str) -> list[str | Hole]:
    """The pieces of the whole conversation; where its instruction has no place, it goes into the first question."""
    try:
        return plans[0].pieces(found[0], name)
    except Invalid:
        if len(plans) == 1 or not found[1][0].text:
            raise
    return _folded(plans[1].pieces(found[1], name))


def _text(found: Rendered, name: str) -> str:
    if found.refusal:
        raise Invalid(
            "template_refuses",
            f"the chat template of {name!r} refuses such a conversation: {found.refusal}",
        )
    if found.error:
        raise Invalid(
            "template_broken", f"the chat template of {name!r} does not render: {found.error}; name another template"
        )
    return found.text


def _cut(text: str, marks: _Marks, turns: Sequence[int], name: str) -> list[str | Hole]:
    """Cut a rendered text at the texts of these turns, of which each has to stand there once, whole and in order."""
    pieces: list[str | Hole] = []
    for turn in turns:
        mark = marks.beginning(turn)
        count, is_early = text.count(mark), any(isinstance(piece, str) and mark in piece for piece in pieces)
        if not count and not is_early and marks.may_lack(turn):
            continue
        if count != 1 or is_early:
            raise _rewrites(name, "doubles or reorders" if count or is_early else "drops", turn)
        placed = _placed(text, marks, turn)
        if placed is None:
            raise _rewrites(name, "rewrites", turn)
        before, hole, text = placed
        pieces += [before, hole]
    return [*pieces, text]


def _placed(text: str, marks: _Marks, turn: int) -> tuple[str, Hole, str] | None:
    """The text before a turn's, its hole, and the text after it; None where it does not stand there as it is."""
    before, found, after = text.partition(marks.text(turn))
    if found:
        before, strips_left = _side(before, _PAD_LEFT, is_left=True)
        after, strips_right = _side(after, _PAD_RIGHT, is_left=False)
        return before, Hole(turn, strips_left, strips_right), after
    for written, strips in ((marks.padded(turn), False), (marks.text(turn), True)):
        before, found, after = text.partition(within_json(written))
        if found:
            return before, Hole(turn, strips, strips, is_json=True), after
    return None


def _side(text: str, pad: str, *, is_left: bool) -> tuple[str, bool]:
    """Return a piece of the template without the padding beside a text, and whether the template left that out."""
    rest = text.removesuffix(pad) if is_left else text.removeprefix(pad)
    return rest, rest == text


def _with_thinking(pieces: list[str | Hole], text: str, marks: _Marks, name: str) -> list[str | Hole]:
    """Return the pieces with the rule for what an answer says before `</think>`: it stays, or is left out."""
    made = list(pieces)
    for at, hole in enumerate(pieces):
        before = pieces[at - 1]
        if not isinstance(hole, Hole) or not isinstance(before, str):
            continue
        written = marks.text(hole.turn)
        lead, found, text = text.partition(within_json(written) if hole.is_json else written)
        if not found:
            raise _rewrites(name, "rewrites what stands before </think> of", hole.turn)
        if marks.is_answer(hole.turn):
            made[at] = hole._replace(drops_thinking=_dropped(lead, before, hole.turn, name))
    return made


def _dropped(lead: str, before: str, turn: int, name: str) -> str | None:
    """Return the signs that a template leaves out after `</think>`; None where the thought stays."""
    if lead.endswith(f"{before}{_THOUGHT}"):
        return None
    for kept, dropped in (("\n\n", ""), ("", "\n")):
        if lead.endswith(f"{before}{kept}"):
            return dropped
    raise _rewrites(name, "rewrites what stands before </think> of", turn)


def _folded(pieces: Sequence[str | Hole]) -> list[str | Hole]:
    """Put the instruction, turn 0, in front of the first turn's text."""
    at = next(number for number, piece in enumerate(pieces) if isinstance(piece, Hole))
    first = pieces[at]
    assert isinstance(first, Hole)
    instruction = Hole(0, strips_left=first.strips_left)
    return [*pieces[:at], instruction, _BETWEEN, first._replace(strips_left=False), *pieces[at + 1 :]]


def _rewrites(name: str, what: str, turn: int) -> Invalid:
    return Invalid(
        "template_rewrites",
        f"the chat template of {name!r} {what} the text of message {turn}: only white space around texts may go; "
        "name another template",
    )


_LEADING_CONTROL = re.compile(r"\A\s*(<\S+?>|\[\S+?\])")


def end_of_turn(frame: Frame) -> str:
    """Return what looks like a control token and stands right after an answer, given `user`, `assistant`, `user`."""
    holes = [at for at, piece in enumerate(frame) if isinstance(piece, Hole)]
    after = frame[holes[1] + 1]
    found = None if isinstance(after, Hole) else _LEADING_CONTROL.search(after.text)
    return found[1] if found else ""
