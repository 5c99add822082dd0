"""Prompt templates as data: how the turns of a conversation are framed, and what ends an answer.

A template turns the shape of a conversation (its roles, and whether it has an instruction) into a frame: the template's
own text with a hole for each turn's text. Only then the texts are put in, so no text can change the frame.
"""

import functools
import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.conversation import INSTRUCTING, Message, Role, last_user
from shared.contracts.prompts import Part, Segment
from shared.contracts.tools import Tool
from shared.errors import Invalid

Piece = Annotated[str, Field(max_length=4096)]
Token = Annotated[str, Field(min_length=1, max_length=128)]
TemplateName = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
MAX_JINJA_CHARS = 65_536
OWN = "model"
"""The name of the base model's own chat template."""
START, END = "{bos}", "{eos}"
"""In a template's text: the tokenizer's own start token, where it puts one before every text, and its end token."""
_MARKS = re.compile(f"({re.escape(START)}|{re.escape(END)})")
_PARTS = {START: Part.START, END: Part.END}
_CONTROL = re.compile(r"<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>")
_END_OF_THINKING = "</think>"


class Turn(BaseModel):
    """What a template writes before and after a turn's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Piece = ""
    after: Piece = ""


class PromptTemplate(BaseModel):
    """One template: the frames of its turns, or a chat template in Jinja."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: TemplateName
    start: Piece = START
    system: Turn | None = None
    """None: the instruction goes in front of the first user turn, after which `between` follows."""
    between: Piece = "\n\n"
    user: Turn = Turn()
    first_user: Turn | None = None
    """The first user turn of a conversation without an instruction; by default as every user turn."""
    user_after_system: Turn | None = None
    """The first user turn of a conversation with an instruction; by default as every user turn."""
    assistant: Turn = Turn()
    generation: Piece = ""
    """What stands before the answer."""
    end: Annotated[str, Field(max_length=128)] = END
    """The token that ends an answer."""
    stops: Annotated[tuple[Token, ...], Field(max_length=16)] = ()
    """Further tokens at which an answer ends."""
    controls: Annotated[tuple[Token, ...], Field(max_length=64)] = ()
    """Tokens that a base model's vocabulary must have."""
    strips: bool = False
    """Whether white space around each text is left out."""
    writes_empty_system: bool = False
    """Whether an empty instruction still gets its turn."""
    by_segment: bool = False
    """Whether each segment is encoded by itself, as the first templates were."""
    jinja: Annotated[str, Field(max_length=MAX_JINJA_CHARS)] = ""
    """A chat template's text, instead of the frames of turns."""

    @model_validator(mode="after")
    def _is_of_one_form(self) -> Self:
        framed = ("system", "user", "first_user", "user_after_system", "assistant")
        both = [name for name in framed if getattr(self, name) not in (None, Turn())]
        if self.jinja and both:
            raise ValueError(f"a template has either `jinja` or frames of turns, not both: leave out {', '.join(both)}")
        return self

    @property
    def needs_vocabulary(self) -> bool:
        """Whether it is a chat template, which is rendered with the tokens of a base model."""
        return bool(self.jinja) or self.name == OWN

    @property
    def jinja_digest(self) -> str:
        """SHA-256 of the chat template's text; empty where it has none."""
        return hashlib.sha256(self.jinja.encode()).hexdigest() if self.jinja else ""

    @property
    def digest(self) -> str:
        """SHA-256 of what the template does: its fields without its name and those that have their default."""
        content = self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Hole(NamedTuple):
    """The place of a turn's text in a frame, and what is left out of the text there."""

    turn: int
    strips_left: bool = False
    strips_right: bool = False
    drops_thinking: str | None = None
    """The signs that are left out after the last `</think>`, with all before it (Qwen3); None leaves out nothing."""
    is_json: bool = False
    """Whether the text stands within a JSON string (what tools answer, in Llama 3.1)."""

    def text_of(self, text: str) -> str:
        """Return what the template takes of this text."""
        if self.drops_thinking is not None and _END_OF_THINKING in text:
            text = text.rsplit(_END_OF_THINKING, maxsplit=1)[-1].lstrip(self.drops_thinking)
        text = text.lstrip() if self.strips_left else text
        text = text.rstrip() if self.strips_right else text
        return within_json(text) if self.is_json else text


def within_json(text: str) -> str:
    """Return a text as it stands in a JSON string, without the quotes."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


Frame = tuple[Segment | Hole, ...]


def fill(frame: Frame, messages: Sequence[Message], *, is_joined: bool = True) -> list[Segment]:
    """Return the segments of a conversation whose shape has this frame.

    The text of every turn is user text: callers may write all of them, also the assistant's. That of the last user turn
    may be shortened, and what tools answer after it.
    """
    last = last_user(messages)
    inputs = {number for number, turn in enumerate(messages) if number >= last and turn.role in ("user", "tool")}
    return [
        Segment(Part.USER, piece.text_of(messages[piece.turn].text), piece.turn in inputs, is_joined)
        if isinstance(piece, Hole)
        else piece
        for piece in frame
    ]


class ToolsNotRendered(Invalid):
    """A request has tools, or turns of tools, and its template does not write them."""

    param = "tools"

    def __init__(self, template: str) -> None:
        super().__init__(
            "tools_not_rendered",
            f"the template {template!r} writes no tools: leave tools and their turns out, or ask an adapter whose "
            "template is a chat template that writes them, such as `model` on many base models",
        )


def framed(template: PromptTemplate, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Segment]:
    """Return the segments of a conversation in a template that has frames of turns; raises `Invalid` for tools."""
    if tools or any(turn.role == "tool" or turn.tool_calls for turn in messages):
        raise ToolsNotRendered(template.name)
    instruction = messages[0].text if messages[0].role in INSTRUCTING else ""
    has_system = messages[0].role in INSTRUCTING and (template.writes_empty_system or bool(instruction.strip()))
    frame = _frame(template, tuple(turn.role for turn in messages), has_system=has_system)
    return fill(frame, messages, is_joined=not template.by_segment)


@functools.lru_cache(maxsize=4096)
def _frame(template: PromptTemplate, roles: tuple[Role, ...], *, has_system: bool) -> Frame:
    pieces: list[str | Hole] = [template.start]
    waiting: Hole | None = None
    first_user = roles.index("user")
    for number, role in enumerate(roles):
        if role in INSTRUCTING and not has_system:
            continue
        if role in INSTRUCTING and template.system is None:
            waiting = Hole(number, strips_left=template.strips)
            continue
        hole = Hole(number, template.strips, template.strips)
        turn = _turn(template, role, is_first=number == first_user, has_system=has_system)
        if waiting and number == first_user:
            pieces += [turn.before, waiting, template.between, hole._replace(strips_left=False), turn.after]
        else:
            pieces += [turn.before, hole, turn.after]
    return segmented([*pieces, template.generation], is_joined=not template.by_segment)


def _turn(template: PromptTemplate, role: Role, *, is_first: bool, has_system: bool) -> Turn:
    if role == "assistant":
        return template.assistant
    if role != "user":
        return template.system or Turn()
    special = template.user_after_system if has_system else template.first_user
    return special if special and is_first else template.user


def segmented(pieces: Sequence[str | Hole], *, is_joined: bool = True) -> Frame:
    """Return pieces of a template as a frame: neighbouring texts are one segment, cut at the tokenizer's own tokens."""
    frame: list[Segment | Hole] = []
    text = ""
    for piece in [*pieces, None]:
        if isinstance(piece, str):
            text += piece
            continue
        parts = (part for part in _MARKS.split(text) if part)
        frame += [
            Segment(_PARTS.get(part, Part.TEMPLATE), "" if part in _PARTS else part, is_joined=is_joined)
            for part in parts
        ]
        frame += [piece] if piece else []
        text = ""
    return tuple(frame)


def control_strings(text: str) -> list[str]:
    """Return what looks like a control token in a template's text, each once, in order."""
    return list(dict.fromkeys(_CONTROL.findall(text)))


def check_controls(template: PromptTemplate, known: Collection[str], base: str) -> None:
    """Raise `Invalid` where a base model's vocabulary lacks a control token of the template."""
    missing = [name for name in (*template.controls, *template.stops) if name not in known]
    missing += [template.end] if template.end not in (END, *known, *missing) else []
    if missing:
        raise Invalid(
            "template_tokens_missing",
            f"template {template.name!r} writes {', '.join(missing)}, which the vocabulary of {base} lacks: name the "
            "template that the adapter was trained with, or `model`, the base model's own",
        )
