"""Templates bound to a base model: its vocabulary has their control tokens, and their end tokens are its ids."""

import functools
import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.built_in_templates import BASE_TEMPLATE, BUILT_IN, unknown_template
from shared.contracts.conversation import Message, message
from shared.contracts.prompts import Segment
from shared.contracts.templates import (
    END,
    OWN,
    Frame,
    PromptTemplate,
    ToolsNotRendered,
    check_controls,
    fill,
    framed,
)
from shared.contracts.tools import Tool
from shared.errors import Invalid
from shared.model.tokens import control_names, end_id, end_token_ids, eos_id
from shared.prompts.call_form import CallForm, call_form
from shared.prompts.cut import Shape, end_of_turn, frame_of
from shared.prompts.frame_cache import FrameCache
from shared.prompts.rendering import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_DATE = "1970-01-01"
_SHAPES = 1024
"""Shapes of conversations whose frames are remembered, for each template."""
_USUAL = (BASE_TEMPLATE, OWN, *(name for name, template in BUILT_IN.items() if template.controls))
_EXCHANGE = (message("user", "a"), message("assistant", "b"), message("user", "c"))


class Calling(NamedTuple):
    """How answers under a template call tools."""

    form: CallForm
    shown_ids: frozenset[int]
    """Control tokens of calls: elsewhere an answer's text does not show them."""


class BoundTemplate(NamedTuple):
    """A template on a base model."""

    template: PromptTemplate
    segments: Callable[[Sequence[Message], str, Sequence[Tool]], list[Segment]]
    """Takes a conversation with a user turn, the date (ISO) of its job, and its tools; raises `Invalid`,
    `Unavailable`."""
    end_id: int
    """The token that ends an answer in training."""
    end_ids: frozenset[int]
    """Tokens at which an answer ends."""
    calling: Callable[[], Calling]
    """Raises `Invalid` where the template writes no tools, or calls that cannot be read; `Unavailable`."""

    def at(self, date: str) -> "BoundTemplate":
        """Return the template at this date (ISO), whatever the date that it is given later."""
        return self._replace(segments=lambda messages, _date, tools: self.segments(messages, date, tools))

    def of_turns(self, messages: Sequence[Message], date: str = NO_DATE, tools: Sequence[Tool] = ()) -> list[Segment]:
        """Return the segments of a conversation."""
        return self.segments(messages, date, tools)


class BasePrompts:
    """The templates on one base model, each bound once."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        folder: Path | None = None,
        *,
        renders_jinja: bool = True,
    ) -> None:
        """`folder` is the model's, whose `generation_config.json` may name end tokens."""
        self._tokenizer = tokenizer
        self._ends = end_token_ids(tokenizer, folder)
        self._renders_jinja = renders_jinja
        self.bind = functools.lru_cache(maxsize=256)(self._bind)

    @functools.cached_property
    def usual(self) -> str:
        """The name of the template for an adapter, a training or a request that names none.

        It is the first that fits of `chatml`, the base model's own, and those whose control tokens the vocabulary has;
        else `plain`.
        """
        return next((name for name in _USUAL if self._fits(BUILT_IN[name])), "plain")

    def _fits(self, template: PromptTemplate) -> bool:
        try:
            check_controls(template, control_names(self._tokenizer), "the base model")
            self.bind(template)
        except Invalid:
            return False
        return True

    def _bind(self, template: PromptTemplate) -> BoundTemplate:
        """Bind a template; raises `Invalid` where it does not fit the base model, `Unavailable` on a stuck machine."""
        if template.name == OWN:
            template = own_template(self._tokenizer)
        if template.jinja and not self._renders_jinja:
            raise Invalid(
                "template_forbidden",
                f"template {template.name!r} is in Jinja, which SIGNALBOX_CHAT_TEMPLATES forbids: name another one",
            )
        known = control_names(self._tokenizer)
        if template.name != BUILT_IN["chatml"].name:  # it was served on every base model, and goes on so
            check_controls(template, known, "the base model")
        return self._framed(template) if not template.jinja else self._rendered(template, known)

    def _framed(self, template: PromptTemplate) -> BoundTemplate:
        if template.by_segment:
            return _of_frames(template, end_id(self._tokenizer, template.name), self._ends)
        return _of_frames(template, self._id(template.end), self._end_ids(template, template.end))

    def _rendered(self, template: PromptTemplate, known: Collection[str]) -> BoundTemplate:
        frames = _Frames(self._tokenizer, template, known)
        end = template.end
        if end == END and (found := frames.end_of_turn()) in known:
            end = found
        end_ids = self._end_ids(template, end)
        ends = tuple(self._tokenizer.convert_ids_to_tokens(sorted(end_ids)))

        def segments(messages: Sequence[Message], date: str, tools: Sequence[Tool]) -> list[Segment]:
            if tools or any(turn.tool_calls for turn in messages):
                # A template may drop calls, and what tools answer, without a word.
                frames.call_form(ends, with_tools=bool(tools))
            return fill(frames.of(messages, date, tools), messages)

        return BoundTemplate(
            template, segments, self._id(end), end_ids, lambda: self._calling(frames.call_form(ends), end_ids)
        )

    def _calling(self, form: CallForm, end_ids: frozenset[int]) -> Calling:
        written = f"{form.opening} {form.between} {form.closing}"
        added = self._tokenizer.added_tokens_decoder.items()
        hidden = {number for number, token in added if token.special and token.content in written}
        return Calling(form, frozenset(hidden - end_ids))

    def _end_ids(self, template: PromptTemplate, end: str) -> frozenset[int]:
        return self._ends | {self._id(token) for token in (end, *template.stops)}

    def _id(self, token: str) -> int:
        return eos_id(self._tokenizer) if token == END else int(self._tokenizer.convert_tokens_to_ids(token))


class _Frames:
    """The frames of a chat template by the shapes of conversations; one that it refuses is remembered, too."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", template: PromptTemplate, controls: Collection[str]
    ) -> None:
        tokens = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        self._name = template.name
        self._controls = controls
        self._chat = ChatTemplate(template.jinja, tokens)
        of_tools = _named_templates(tokenizer).get("tool_use", "") if template.name == OWN else ""
        self._chat_with_tools = ChatTemplate(of_tools or template.jinja, tokens)
        self._is_dated = "strftime_now" in template.jinja + of_tools
        self._find = functools.lru_cache(maxsize=_SHAPES)(self._found)
        self._of_tools = FrameCache()
        self._form = functools.lru_cache(maxsize=2)(self._found_form)

    def of(self, messages: Sequence[Message], date: str, tools: Sequence[Tool] = ()) -> Frame:
        shape = Shape.of(messages, tools)
        date = date if self._is_dated else NO_DATE
        found = self._find(shape, date) if shape.uses is None else self._with_tools(shape, date)
        if isinstance(found, Invalid):
            raise found
        return found

    def call_form(self, ends: tuple[str, ...], *, with_tools: bool = True) -> CallForm:
        found = self._form(ends, with_tools)
        if isinstance(found, Invalid):
            raise found
        return found

    def _found_form(self, ends: tuple[str, ...], with_tools: bool) -> CallForm | Invalid:
        try:
            return call_form(self._chat_with_tools if with_tools else self._chat, self._name, ends)
        except Invalid as error:
            return error

    def _with_tools(self, shape: Shape, date: str) -> Frame | Invalid:
        key = hashlib.sha256(repr((shape, date)).encode()).digest()
        return self._of_tools.of(key, lambda: self._found(shape, date))

    def end_of_turn(self) -> str:
        """Return the control token after an answer; empty where the template shows none."""
        try:
            return end_of_turn(self.of(_EXCHANGE, NO_DATE))
        except Invalid as error:
            if error.code != "template_refuses":
                raise
        self.of(_EXCHANGE[:1], NO_DATE)  # it takes one question alone
        return ""

    def _found(self, shape: Shape, date: str) -> Frame | Invalid:
        chat = self._chat_with_tools if shape.uses and shape.uses.tools else self._chat
        try:
            return frame_of(chat._replace(date=date), shape, self._name, self._controls)
        except Invalid as error:
            return error


def own_template(tokenizer: "PreTrainedTokenizerBase") -> PromptTemplate:
    """Return the chat template of a base model; raises `Invalid` where it has none."""
    jinja = _named_templates(tokenizer).get("default")
    if not jinja:
        raise Invalid(
            "template_missing", "the base model has no chat template: name another one, such as alpaca or plain"
        )
    return PromptTemplate(name=OWN, jinja=jinja)


def _named_templates(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """The chat templates by their names; as in transformers, `tool_use` takes the place of `default` with tools."""
    found = tokenizer.chat_template
    return found if isinstance(found, dict) else {"default": found or ""}


def built_in(tokenizer: "PreTrainedTokenizerBase", name: str) -> BoundTemplate:
    """Bind a built-in template; raises `Invalid` for another name."""
    if name not in BUILT_IN:
        raise unknown_template(name, list(BUILT_IN))
    return BasePrompts(tokenizer).bind(BUILT_IN[name])


def as_bound(tokenizer: "PreTrainedTokenizerBase", template: str | BoundTemplate) -> BoundTemplate:
    """Return a bound template as it is, and a built-in template's name bound."""
    return built_in(tokenizer, template) if isinstance(template, str) else template


def without_vocabulary(template: PromptTemplate) -> BoundTemplate:
    """Bind a template to an engine that has no vocabulary; raises `Invalid` for a chat template in Jinja."""
    if template.needs_vocabulary:
        raise Invalid("template_missing", f"this engine has no base model, and so no template {template.name!r}")
    return _of_frames(template, -1, frozenset())


def _of_frames(template: PromptTemplate, end: int, end_ids: frozenset[int]) -> BoundTemplate:
    """Bind a template that has frames of turns, and no place for tools."""

    def segments(messages: Sequence[Message], _date: str, tools: Sequence[Tool]) -> list[Segment]:
        return framed(template, messages, tools)

    def calling() -> Calling:
        raise ToolsNotRendered(template.name)

    return BoundTemplate(template, segments, end, end_ids, calling)
