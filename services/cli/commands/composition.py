"""Queues the composition of adapters."""

from collections.abc import Sequence
from typing import Any

import typer

from services.cli.commands.common import client
from services.cli.commands.training import show_queued


def compose_adapters(label: str, parts: Sequence[str], *, wait: bool, as_json: bool, **options: Any) -> None:
    """Queue `adapter.compose` of parts as they are typed, `REF` or `REF=WEIGHT`."""
    api, given = client(), {name: value for name, value in options.items() if value not in ("", None, False)}
    show_queued(api, api.compose(label, _weighted(parts), **given), wait=wait, as_json=as_json)


def _weighted(parts: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in parts:
        ref, _, weight = text.partition("=")
        if ref in found:
            raise typer.BadParameter(f"{ref} is named twice: name it once, as {ref}=2 where it shall count double")
        try:
            found[ref] = float(weight or 1)
        except ValueError:
            raise typer.BadParameter(f"write a part as REF or REF=WEIGHT (law.texts@1=0.5), not {text}") from None
    return found
