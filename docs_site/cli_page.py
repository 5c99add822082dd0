"""The page of the command line: every command with its arguments and options, from the application itself."""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from docs_site.tables import code, page, table
from services.cli.main import app

_HEAD = """
What each command takes. What they are for, with examples: [the command `signalbox`](../commands.md). What stands in
brackets may be left out; what has `…` may be repeated.
"""
_FORMS = {str: "text", int: "whole number", float: "number", Path: "path", bool: ""}


def cli_page() -> str:
    """Return the page."""
    sections = [_section(path, command) for path, command in _commands("signalbox", get_command(app))]
    return page("Command line", "the commands in `services/cli` and `lab`", [_HEAD, *sections])


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name in sorted(command.commands):
            yield from _commands(f"{path} {name}", command.commands[name])
    elif not command.hidden:
        yield path, command


def _section(path: str, command: Any) -> str:
    taken = [one for one in command.params if not one.hidden]
    arguments = [_place(one) for one in taken if not _is_option(one)]
    options = ["[OPTIONS]"] if any(map(_is_option, taken)) else []
    usage = f"```text\n{' '.join([path, *arguments, *options])}\n```"
    rows = [_row(one) for one in taken]
    parts = [f"## `{path}`", (command.help or "").replace("\b", "").strip(), usage]
    return "\n\n".join([*parts, table(["name", "form", "default", "meaning"], rows)] if rows else parts)


def _is_option(one: Any) -> bool:
    return bool(one.param_type_name == "option")


def _place(one: Any) -> str:
    name = one.name.upper() + ("…" if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


def _row(one: Any) -> tuple[str, str, str, str]:
    names = ", ".join([*one.opts, *one.secondary_opts]) if _is_option(one) else _place(one)
    needed = " (needed)" if _is_option(one) and one.required else ""
    return code(names) + needed, _form(one), _default(one), one.help or ""


def _form(one: Any) -> str:
    kind = one.type_descriptor.annotation
    many = "…" if typing.get_origin(kind) is list else ""
    kind = typing.get_args(kind)[0] if many else kind
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(map(code, typing.get_args(kind))) + many
    least = f" from {one.min}" if one.min is not None else ""
    most = f" to {one.max}" if one.max is not None else ""
    return _FORMS[kind] + least + most + many


def _default(one: Any) -> str:
    value = one.default
    if value is None or value is False or value in ("", [], ()) or callable(value):
        return ""
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return code("on" if shown is True else shown)
