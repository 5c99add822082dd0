"""Renders a chat template in a process of its own, within limits; run as a program, never imported by a service.

It reads one JSON object from standard input and writes one to standard output. Jinja is set up as in transformers
(`utils/chat_template_utils.py`), without importing that: this process starts in a tenth of a second.
"""

import contextlib
import json
import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}`, by which templates mark the assistant's part: here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - the library declares it so

    def parse(self, parser: "jinja2.parser.Parser") -> "list[jinja2.nodes.Node]":
        """Return what stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class SafeNamespace(jinja2.utils.Namespace):
    """A namespace that takes no names with a leading underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a chat template cannot set {name!r}")
        super().__setitem__(name, value)


class Refusal(jinja2.exceptions.TemplateError):
    """What a template says by `raise_exception`."""


def environment(date: str) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Return the environment of chat templates, at this date (ISO) at midnight."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, jinja2.ext.loopcontrols]
    )
    now = datetime.fromisoformat(date).replace(tzinfo=UTC)
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = now.strftime
    made.globals["namespace"] = SafeNamespace
    return made


def _to_json(value: Any, **options: Any) -> str:
    # The library's own filter escapes the signs of HTML.
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _refuse(message: str) -> None:
    raise Refusal(message)


def load_all() -> None:
    """Let Python and Jinja load what they load when it is first used: later no file can be opened."""
    template = environment("1970-01-01").from_string("{{ 'a\\n' | tojson }}{{ strftime_now('%d %b') }}{{ 1 / 0 }}")
    with contextlib.suppress(ZeroDivisionError):
        template.render()


def limit(seconds: int, memory_bytes: int) -> None:
    """Bound this process: processor time, address space; no file can be written, none opened."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def renders(order: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield, for each conversation, its `text`, or the template's `refusal`, or an `error`."""
    try:
        template = environment(order["date"]).from_string(order["template"])
    except (jinja2.exceptions.TemplateError, RecursionError, MemoryError, ValueError) as error:
        yield from ({"error": _said(error)} for _ in order["conversations"])
        return
    for conversation in order["conversations"]:
        yield _rendered(template, conversation, order)


def _rendered(template: jinja2.Template, conversation: dict[str, Any], order: dict[str, Any]) -> dict[str, str]:
    variables = {**order["tokens"], **conversation, "documents": None, "add_generation_prompt": True}
    text = ""
    try:
        for piece in template.generate(**variables):
            text += piece
            if len(text) > order["max_chars"]:
                return {"error": f"it writes more than {order['max_chars']} characters"}
    except Refusal as refusal:
        return {"refusal": str(refusal)[:500]}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except Exception as error:  # noqa: BLE001 - whatever the template does, the process says it
        return {"error": _said(error)}
    return {"text": text}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def main() -> None:
    """Render what standard input holds."""
    order = json.load(sys.stdin)
    load_all()
    limit(order["seconds"], order["memory_bytes"])
    json.dump(list(renders(order)), sys.stdout)


if __name__ == "__main__":
    main()
