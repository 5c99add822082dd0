"""What is found of a base model's chat template, and of the template that is usual on it."""

from typing import TYPE_CHECKING

from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.conversation import message
from shared.contracts.prompts import render
from shared.contracts.templates import OWN, control_strings
from shared.errors import Invalid
from shared.model.servable import Finding
from shared.model.tokens import encode
from shared.prompts.bound import BasePrompts, BoundTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROOM = 1 << 20
_SYSTEM, _ASKED = message("system", "Be brief."), message("user", "Where is it?")
_TOLD = [_SYSTEM, _ASKED]
_LONGER = [_ASKED, message("assistant", "There."), _ASKED]


def template_findings(prompts: BasePrompts, tokenizer: "PreTrainedTokenizerBase") -> list[Finding]:
    """Return what a base model's own template does, and which one is usual; raises `Unavailable` on a stuck machine."""
    usual = f"{prompts.usual}, for an adapter, a training and a request without an adapter that name none"
    return [Finding("chat template", _own(prompts, tokenizer)), Finding("usual template", usual)]


def _own(prompts: BasePrompts, tokenizer: "PreTrainedTokenizerBase") -> str:
    if not tokenizer.chat_template:
        return "none: there is no template `model`; name another one, such as alpaca or plain"
    try:
        own = prompts.bind(BUILT_IN[OWN])
        alike = [name for name in BUILT_IN if name != OWN and _is_alike(prompts, tokenizer, own, name)]
        rule = _instruction(own)
    except Invalid as error:
        return f"cannot be used as the template `model`: {error.detail}"
    same = f"the same as {' and '.join(alike)}" if alike else "none of the built-in ones"
    end = tokenizer.convert_ids_to_tokens(own.end_id)
    return f"rendered as the template `model`, {same}; {rule}; an answer ends at {end}; {_tools(own)}"


def _is_alike(prompts: BasePrompts, tokenizer: "PreTrainedTokenizerBase", own: BoundTemplate, name: str) -> bool:
    """Whether a built-in template gives the same tokens, for questions with and without an instruction."""
    try:
        other = prompts.bind(BUILT_IN[name])
    except Invalid:
        return False
    return all(
        encode(tokenizer, own.of_turns(turns), _ROOM) == encode(tokenizer, other.of_turns(turns), _ROOM)
        for turns in ([_ASKED], _TOLD, _LONGER)
    )


def _instruction(own: BoundTemplate) -> str:
    """Say what becomes of an instruction, and of a question that has none."""
    if f"{_SYSTEM.text}\n\n{_ASKED.text}" in render(own.of_turns(_TOLD)):
        return "an instruction goes in front of the first question"
    before = (render(own.of_turns(turns)).partition(_ASKED.text)[0] for turns in ([_ASKED], _TOLD))
    alone, told = map(control_strings, before)
    if told and alone == told:
        return "it has a role for the instruction, and writes one of its own where there is none"
    return "it has a role for the instruction"


def _tools(own: BoundTemplate) -> str:
    """Say whether requests may offer tools."""
    try:
        form = own.calling().form
    except Invalid as error:
        return "it writes no tools" if error.code == "tools_not_rendered" else error.detail
    return f"it writes tools, and calls of them {f'behind {form.opening}' if form.is_marked else 'as JSON alone'}"
