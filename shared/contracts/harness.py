"""The human text of a user turn: what programs put between tags, such as tool results, is left out.

One pass over the tags: the time is linear in the text's length, whatever somebody writes.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, NamedTuple

from pydantic import StringConstraints

TagName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_.:-]{0,63}$")]
"""The name of a tag, as in `<file path="a.py">`; upper case and lower case are the same."""

_WRITTEN_BY_PROGRAMS = {
    "instructions and reminders": (
        "system-reminder system_reminder system-warning system_warning reminder reminderinstructions user_instructions "
        "always_applied_workspace_rules agent_requestable_workspace_rules cursor_rules_context user-prompt-submit-hook "
        "session-start-hook task-notification"
    ),
    "what is known of the machine, the editor and the project": (
        "environment_details environment_context environment_info workspace_info repository_context project_layout "
        "user_info git_status additional_data editorcontext ide_selection ide_opened_file ide_diagnostics "
        "new-diagnostics linter_errors current_file open_files open_and_recently_viewed_files recently_viewed_files "
        "code_selection manually_added_selection"
    ),
    "calls of tools, and what came of them": (
        "tool_result tool-result tool_results tool_response tool_output tool_outputs tool_call tool_calls tool_use "
        "function_call function_calls function_result function_results function_response observation command-name "
        "command-message command-args command-contents local-command-caveat local-command-stdout local-command-stderr "
        "bash-stdout bash-stderr terminal_output terminal_selection stdout stderr persisted-output search_results "
        "web_search_results"
    ),
    "files and other material": (
        "file files file_content file_contents final_file_content file-contents folder_content attached_file "
        "attached_files attached-files attachment attachments document documents document_content document_contents "
        "context retrieved_context url_content pasted_content"
    ),
}
HARNESS_TAGS: frozenset[str] = frozenset(name for names in _WRITTEN_BY_PROGRAMS.values() for name in names.split())
"""Blocks between these tags are left out: no human wrote them into the turn. A release can name more."""
HUMAN_TAGS: frozenset[str] = frozenset(
    {"user_query", "user_message", "userrequest", "user_request", "human_input", "feedback"}
)
"""Of these only the tags are left out: a harness puts the human's words between them."""

# Possessive quantifiers: a `<` that begins no tag is given up without a second try.
_TAG = re.compile(r"<(/?+)([A-Za-z][A-Za-z0-9_.:-]*+)((?:\s[^<>]*+)?+)>")


class _Tag(NamedTuple):
    name: str
    is_closing: bool
    start: int
    end: int


class _Span(NamedTuple):
    start: int
    end: int


def human_text(text: str, more_tags: Iterable[str] = ()) -> str:
    """Return the text without blocks of harnesses; a text without any is returned as it is.

    A block begins with a tag of a known name and ends with its own closing tag. A tag that is never closed is text.
    Pieces between blocks are parted by a line break.
    """
    if "</" not in text:
        return text
    left_out = list(_left_out(text, HARNESS_TAGS.union(name.lower() for name in more_tags)))
    if not left_out:
        return text
    starts = [0, *(span.end for span in left_out)]
    ends = [*(span.start for span in left_out), len(text)]
    pieces = (text[start:end].strip() for start, end in zip(starts, ends, strict=True))
    return "\n".join(piece for piece in pieces if piece)


def _left_out(text: str, names: Collection[str]) -> Iterator[_Span]:
    """The parts that are left out, in order, apart from each other."""
    end = 0
    for span in sorted(_blocks(text, names)):
        if span.end > end:
            yield _Span(max(span.start, end), span.end)
            end = span.end


def _blocks(text: str, names: Collection[str]) -> Iterator[_Span]:
    """Every pair of tags of one name, also inside others; of tags around a human's words, the two tags."""
    opened: dict[str, list[_Tag]] = {}
    for tag in _tags(text):
        if tag.name not in names and tag.name not in HUMAN_TAGS:
            continue
        if not tag.is_closing:
            opened.setdefault(tag.name, []).append(tag)
        elif stack := opened.get(tag.name):
            first = stack.pop()
            if tag.name in names:
                yield _Span(first.start, tag.end)
            else:
                yield _Span(first.start, first.end)
                yield _Span(tag.start, tag.end)


def _tags(text: str) -> Iterator[_Tag]:
    for found in _TAG.finditer(text):
        if not found[3].endswith("/"):  # `<file/>` holds nothing
            yield _Tag(found[2].lower(), bool(found[1]), found.start(), found.end())
