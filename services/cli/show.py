"""What the command line prints: tables for people, JSON for machines, progress while something runs."""

import json as jsonlib
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from shared.errors import SignalboxError

out = Console()
err = Console(stderr=True)


def error(problem: SignalboxError) -> None:
    """One sentence with its code."""
    err.print(f"[red]{problem.code}[/red]: ", end="")
    err.print(problem.detail, markup=False)


def _json(value: Any) -> None:
    sys.stdout.write(jsonlib.dumps(value, ensure_ascii=False) + "\n")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = str(value)
    return text[:12] if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else text


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """One line a record."""
    if as_json:
        _json(list(rows))
        return
    view = Table(*columns)
    for row in rows:
        view.add_row(*(_short(row.get(column)) for column in columns))
    out.print(view)


def record(value: dict[str, Any], *, as_json: bool) -> None:
    """One record, field by field."""
    if as_json:
        _json(value)
        return
    view = Table(show_header=False, box=None)
    for name, item in value.items():
        view.add_row(name, jsonlib.dumps(item, ensure_ascii=False) if isinstance(item, dict | list) else _short(item))
    out.print(view)


def job(value: dict[str, Any], *, as_json: bool) -> None:
    """A job: the answer first."""
    if as_json:
        _json(value)
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
        fields["waiting_for_group"] = f"no live worker serves {value.get('queue')}; start one"
    if value.get("error"):
        fields["error"] = value["error"]
    record(fields, as_json=False)


def jobs(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """One line a job."""
    table(rows, ["id", "kind", "state", "label", "attempt", "created_at"], as_json=as_json)


def releases(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """One line a release."""
    lines = [
        row | {"labels": sorted(row["labels"]), "gate": "passed" if row["verdict"]["passed"] else "failed"}
        for row in rows
    ]
    table(rows if as_json else lines, ["id", "current", "parent", "labels", "gate", "created_at"], as_json=as_json)


def findings(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What the doctor found."""
    if as_json:
        _json(list(rows))
        return
    for row in rows:
        mark = "[green]ok[/green]  " if row["ok"] else "[red]no[/red]  "
        out.print(f"{mark}{row['what']}: {row['says']}" + ("" if row["ok"] else f"\n    → {row['mend']}"))


def evaluation(found: dict[str, Any], *, as_json: bool) -> None:
    """A selector's metrics; a cascade's curve as a table of its own."""
    if as_json:
        _json(found)
        return
    points = found.pop("curve", [])
    record(found, as_json=False)
    if points:
        table = Table("asks the language model", "light one is sure from", "accuracy", "CPU ms a request")
        for point in points:
            table.add_row(
                f"{point['llm_share']:.0%}",
                f"{point['sure']:.3f}" if point["sure"] <= 1 else "never",
                f"{point['accuracy']:.4f}",
                f"{point['ms']:.1f}",
            )
        out.print(table)


def event(kind: str, data: dict[str, Any]) -> None:
    """One event as a line."""
    out.print(f"{kind:9}", end=" ")
    out.print(jsonlib.dumps(data, ensure_ascii=False), markup=False)


def follow_generation(client: Any, job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Print a job's text as it comes; answers the ended job."""
    for kind, data in client.events(f"/v1/jobs/{job_id}/events"):
        if kind == "token" and not quiet:
            out.print(data["text"], end="", markup=False, highlight=False)
    if not quiet:
        out.print()
    return dict(client.get(f"/v1/jobs/{job_id}"))


def follow_training(client: Any, job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Show a training job's progress bar; answers the ended job."""
    return follow_all(client, {job_id: ""}, quiet=quiet)[job_id]


def follow_all(client: Any, titles: Mapping[str, str], *, quiet: bool) -> dict[str, dict[str, Any]]:
    """Show a progress bar for each training job (id -> title); answers the ended jobs by id."""
    with progress_bars(disable=quiet) as bars, ThreadPoolExecutor(len(titles)) as pool:
        follow = partial(follow_into, client, bars)
        return dict(zip(titles, pool.map(follow, titles, titles.values()), strict=True))


def progress_bars(**options: Any) -> Progress:
    """Bars of training jobs."""
    columns = (
        TextColumn("{task.description:34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=err, **options)


def follow_into(
    client: Any, bars: Progress, job_id: str, title: str, hear: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Move one bar until its job has ended, `hear` what its progress says; answers the job."""
    task = bars.add_task(f"{title} queued".strip(), total=None, note="")
    for kind, data in client.events(f"/v1/training/jobs/{job_id}/events"):
        if kind == "progress":
            hear(data)
            fields = progress_fields(data)
            bars.update(task, **fields | {"description": f"{title} {fields['description']}".strip()})
    job = dict(client.get(f"/v1/training/jobs/{job_id}"))
    bars.update(task, description=f"{title} {job['state']}".strip(), note="")
    return job


def progress_fields(data: dict[str, Any]) -> dict[str, Any]:
    """A progress event as fields of a rich progress task."""
    fields: dict[str, Any] = {"description": data["stage"].replace("_", " ")}
    if "steps" in data:
        note = f"loss {data['loss']:.3f}, {data['seconds_left']:.0f} s left"
        fields |= {"completed": data["step"], "total": data["steps"], "note": note}
    return fields
