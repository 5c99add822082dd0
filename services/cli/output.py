"""Prints the command line's output: columns for people, tabs for pipes, JSON for machines."""

import json as jsonlib
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from services.cli.columns import GAP, fit
from shared.json_text import on_one_line
from shared.names import start_one

_ESCAPED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
out = Console()
err = Console(stderr=True)


def error(code: str, detail: str) -> None:
    """Print an error code and its sentence."""
    err.print(f"[red]{code}[/red]: ", end="")
    err.print(detail, markup=False)


def json_line(value: Any, stream: TextIO | None = None) -> None:
    """Print a value as one line of JSON, in ASCII, on standard output unless `stream` is given."""
    print(jsonlib.dumps(value), file=stream, flush=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return jsonlib.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _on_one_line(value: Any) -> str:
    return "".join(_ESCAPED.get(character, character) for character in _cell(value))


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool, one: str = "") -> None:
    """Print one line per record: in columns on a terminal, whole and separated by tabs elsewhere.

    Where a terminal is too narrow, standard error says how to see the rest; `one` is the command that shows a record.
    """
    if as_json:
        json_line(list(rows))
        return
    lines = [list(columns), *([_on_one_line(row.get(column)) for column in columns] for row in rows)]
    if not out.is_terminal:
        for line in lines:
            _line("\t".join(line).rstrip(" "))
        return
    fitted = fit(lines, out.width)
    for line in fitted.lines:
        _line(GAP.join(line).rstrip(" "))
    if fitted.left_out or fitted.is_shortened:
        without = f" without {', '.join(fitted.left_out)}" if fitted.left_out else ""
        shows = f", `{one}` shows one" if one else ""
        said = f"shortened to {out.width} columns{without}: --json has everything{shows}"
        err.print(said, markup=False, highlight=False)


def _line(text: str) -> None:
    """Print a text as it is: nothing in it is markup, no tab becomes spaces, no width breaks it."""
    print(text, file=out.file)


def record(value: dict[str, Any], *, as_json: bool) -> None:
    """Print one record field by field; on a terminal a long field is broken within its column."""
    if as_json:
        json_line(value)
        return
    if not out.is_terminal:
        for name, item in value.items():
            _line(f"{name}\t{_on_one_line(item)}")
        return
    view = Table(show_header=False, box=None)
    view.add_column(no_wrap=True)
    view.add_column(overflow="fold")
    for name, item in value.items():
        view.add_row(name, Text(_cell(item)))
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
    """Print one line per job; of a training it says what is trained."""
    lines = rows if as_json else [row | _trained(row.get("trains") or {}) for row in rows]
    columns = ["id", "kind", "state", "label", "try", "created_at"]
    table(lines, columns, as_json=as_json, one="signalbox jobs show ID")


def _trained(trains: Mapping[str, Any]) -> dict[str, Any]:
    """The kind and the labels of a training job; empty for other jobs."""
    return {"kind": trains["kind"], "label": trains["labels"]} if trains else {}


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
    _line(f"{kind:9} {on_one_line(jsonlib.dumps(dict(data), ensure_ascii=False))}")


def no_worker(job: Mapping[str, Any]) -> str:
    """The reason why a job waits: its group has no worker."""
    return f"no live worker serves {job['queue']}; {start_one(job['queue'])}"
