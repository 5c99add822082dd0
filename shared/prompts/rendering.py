"""Renders chat templates in a bounded process, and says what became of them."""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import Invalid, Unavailable

SECONDS = 2
"""Processor time of one call."""
MEMORY_BYTES = 512 << 20
MAX_CHARS = 1 << 20
"""Of one conversation's prompt."""
_WALL_SECONDS = 30.0
"""A machine that is this slow has other troubles."""
_PROGRAM = Path(__file__).with_name("sandbox.py")
_ONE = threading.Lock()
"""One process at a time: conversations of ever new shapes must not fill the machine with them."""

ChatMessages = Sequence[Mapping[str, Any]]


class Conversation(NamedTuple):
    """What a template is shown."""

    messages: ChatMessages
    tools: Sequence[Mapping[str, Any]] = ()


class Rendered(NamedTuple):
    """What a template made of one conversation: a text, or its own refusal, or an error of it."""

    text: str = ""
    refusal: str = ""
    error: str = ""


class ChatTemplate(NamedTuple):
    """A chat template, the names of the tokens that it may write (`bos_token`, …), and the date that it may write."""

    jinja: str
    tokens: Mapping[str, str]
    date: str = "1970-01-01"


def rendered(template: ChatTemplate, conversations: Sequence[Conversation]) -> list[Rendered]:
    """Render conversations; raises `Invalid` where the template breaks its bounds, `Unavailable` on a stuck machine."""
    order = {
        "template": template.jinja,
        "tokens": dict(template.tokens),
        "date": template.date,
        "conversations": [{"messages": list(one.messages), "tools": list(one.tools) or None} for one in conversations],
        "seconds": SECONDS,
        "memory_bytes": MEMORY_BYTES,
        "max_chars": MAX_CHARS,
    }
    return [Rendered(**one) for one in json.loads(_run(json.dumps(order)))]


def _run(order: str) -> str:
    # Isolated: neither its environment nor its folder adds anything to the program.
    command = [sys.executable, "-I", str(_PROGRAM)]
    try:
        with _ONE:
            done = subprocess.run(  # noqa: S603
                command,
                input=order,
                capture_output=True,
                text=True,
                encoding="utf-8",
                cwd="/",
                env={},
                timeout=_WALL_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            "template_slow", f"the process that renders chat templates took over {_WALL_SECONDS:g} s: try again"
        ) from error
    if done.returncode:
        raise Invalid(
            "template_unbounded",
            f"the chat template takes more than {SECONDS} s or {MEMORY_BYTES >> 20} MiB to render: it loops, or is no "
            "chat template; name another one",
        )
    return done.stdout
