"""Prints the command line's output: tables for people, JSON for machines."""

import json as jsonlib
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.json_text import on_one_line
from shared.names import start_one

out = Console()
err = Console(stderr=True)


def error(code: str, detail: str) -> None:
    """Print an error code and its sentence."""
    err.print(f"[red]{code}[/red]: ", end="")
    err.print(detail, markup=False)


def json_line(value: Any, stream: TextIO | None = None) -> None:
    """Print a value as one line of JSON, in ASCII, on standard output unless `stream` is given."""
    print(jsonlib.dumps(value), file=stream, flush=True)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = str(value)
    return text[:12] if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else text


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print one line per record."""
    if as_json:
        json_line(list(rows))
        return
    view = Table()
    for column in columns:  # ids are never truncated, so that they can be copied
        view.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        view.add_row(*(_short(row.get(column)) for column in columns))
    out.print(view)


def record(value: dict[str, Any], *, as_json: bool) -> None:
    """Print one record field by field."""
    if as_json:
        json_line(value)
        return
    view = Table(show_header=False, box=None)
    for name, item in value.items():
        view.add_row(name, jsonlib.dumps(item, ensure_ascii=False) if isinstance(item, dict | list) else _short(item))
    out.print(view)


def job(value: dict[str, Any], *, as_json: bool) -> None:
    """Print a job: its main fields, and its answer, result or error."""
    if as_json:
        json_line(value)
        return
    fields = {name: value.get(name) for name in ("id", "state", "label", "release")}
    selection, result = value.get("selection") or {}, value.get("result") or {}
    if selection:
        fields["probability"] = selection.get("probability")
    if "text" in result:
        fields |= {"adapter": result.get("adapter") or "none (base model)", "answer": result["text"]}
    elif result:
        fields["result"] = result
    if value.get("stage_ms"):
        fields["stage_ms"] = value["stage_ms"]
    if value.get("waiting_for_group"):
        fields["waiting_for_group"] = no_worker(value)
    if value.get("error"):
        fields["error"] = value["error"]
    record(fields, as_json=False)


def jobs(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print one line per job."""
    table(rows, ["id", "kind", "state", "label", "attempt", "created_at"], as_json=as_json)


def releases(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print one line per release."""
    lines = [
        row | {"labels": sorted(row["labels"]), "gate": "passed" if row["verdict"]["passed"] else "failed"}
        for row in rows
    ]
    table(rows if as_json else lines, ["id", "current", "parent", "labels", "gate", "created_at"], as_json=as_json)


def findings(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print the doctor's findings."""
    if as_json:
        json_line(list(rows))
        return
    for row in rows:
        mark = "[green]ok[/green]  " if row["ok"] else "[red]no[/red]  "
        out.print(mark + escape(f"{row['what']}: {row['says']}" + ("" if row["ok"] else f"\n    → {row['mend']}")))


def event(kind: str, data: Mapping[str, Any]) -> None:
    """Print one event as a line."""
    line = f"{kind:9} {on_one_line(jsonlib.dumps(dict(data), ensure_ascii=False))}"
    out.print(line, markup=False, soft_wrap=True)


def no_worker(job: Mapping[str, Any]) -> str:
    """The reason why a job waits: its group has no worker."""
    return f"no live worker serves {job['queue']}; {start_one(job['queue'])}"
