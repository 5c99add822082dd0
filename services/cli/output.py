"""What the command line prints: tables for people, JSON for machines, progress while something runs."""

import json as jsonlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, track
from rich.table import Table

from shared.errors import SignalboxError

T = TypeVar("T")

out = Console()
err = Console(stderr=True)


def error(problem: SignalboxError) -> None:
    """One sentence with its code."""
    err.print(f"[red]{problem.code}[/red]: ", end="")
    err.print(problem.detail, markup=False)


def json_line(value: Any, stream: TextIO | None = None) -> None:
    """One value on a line of its own, on standard output unless told otherwise."""
    print(jsonlib.dumps(value, ensure_ascii=False), file=stream, flush=True)


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
        json_line(list(rows))
        return
    view = Table()
    for column in columns:  # an id cut short cannot be copied into the next command: the others fold first
        view.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        view.add_row(*(_short(row.get(column)) for column in columns))
    out.print(view)


def record(value: dict[str, Any], *, as_json: bool) -> None:
    """One record, field by field."""
    if as_json:
        json_line(value)
        return
    view = Table(show_header=False, box=None)
    for name, item in value.items():
        view.add_row(name, jsonlib.dumps(item, ensure_ascii=False) if isinstance(item, dict | list) else _short(item))
    out.print(view)


def job(value: dict[str, Any], *, as_json: bool) -> None:
    """A job: the answer first."""
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
        fields["waiting_for_group"] = _no_worker(value)
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
        json_line(list(rows))
        return
    for row in rows:
        mark = "[green]ok[/green]  " if row["ok"] else "[red]no[/red]  "
        out.print(mark + escape(f"{row['what']}: {row['says']}" + ("" if row["ok"] else f"\n    → {row['mend']}")))


def evaluation(found: dict[str, Any], *, as_json: bool) -> None:
    """A selector's metrics; a cascade's curve as a table of its own."""
    if as_json:
        json_line(found)
        return
    tables = {"per_label", "confusion", "intervals", "curve"}
    record({name: value for name, value in found.items() if name not in tables}, as_json=False)
    if "confusion" in found:
        _label_table(found)
    if "curve" in found:
        _curve_table(found["curve"])


def _label_table(found: Mapping[str, Any]) -> None:
    """Each label's accuracy, and which labels its rows were taken for instead, the most frequent first."""
    view = Table("label", "rows", "accuracy", "95 %", "taken for")
    for label, taken in found["confusion"].items():
        low, high = found["intervals"]["per_label"][label]
        wrong = sorted(((n, other) for other, n in taken.items() if other != label), reverse=True)
        view.add_row(
            label,
            str(sum(taken.values())),
            f"{found['per_label'][label]:.3f}",
            f"{low:.3f} to {high:.3f}",
            ", ".join(f"{other} {n}" for n, other in wrong),
        )
    out.print(view)


def _curve_table(points: Iterable[Mapping[str, Any]]) -> None:
    view = Table("asks the language model", "light one is sure from", "accuracy", "CPU ms a request")
    for point in points:
        view.add_row(
            f"{point['llm_share']:.0%}",
            f"{point['sure']:.3f}" if point["sure"] <= 1 else "never",
            f"{point['accuracy']:.4f}",
            f"{point['ms']:.1f}",
        )
    out.print(view)


def system(found: dict[str, Any], *, as_json: bool) -> None:
    """The three lines of a system's evaluation side by side, one row a task."""
    if as_json:
        json_line(found)
        return
    view = Table("task", "rows", "measured by", "selector alone", "oracle routing", "routed", "weights trained")
    found_lines, adapters = found["lines"], found["parameters"]["adapters"]
    for label, task in found["tasks"].items():
        values = [_interval(line["tasks"][label]) for line in found_lines.values()]
        view.add_row(label, str(task["n"]), task["measure"], *values, f"{adapters[label]['share']:.2%}")
    view.add_section()
    view.add_row("mean of tasks", "", "", *(_interval(line["mean"]) for line in found_lines.values()), "")
    out.print(view)
    record({name: found[name] for name in ("release", "background")}, as_json=False)
    for part, trained in found["parameters"]["selector"].items():
        out.print(f"selector ({part}): {trained['trainable']:,} weights trained, {trained['share']:.2%}")


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def counted(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a bar on standard error that tells how many are done."""
    return iter(track(items, what, console=err, transient=True))


def event(kind: str, data: dict[str, Any]) -> None:
    """One event as a line."""
    out.print(f"{kind:9}", end=" ")
    out.print(jsonlib.dumps(data, ensure_ascii=False), markup=False)


def follow_generation(client: Any, job_id: str, *, quiet: bool) -> dict[str, Any]:
    """Print a job's text as it comes, and where it waits for a worker that is not there; answers the ended job."""
    for kind, data in client.events(f"/v1/jobs/{job_id}/events"):
        if kind == "token" and not quiet:
            out.print(data["text"], end="", markup=False, highlight=False)
        elif kind == "state" and data["state"] in ("queued", "routed"):
            job = client.get(f"/v1/jobs/{job_id}")
            if job["waiting_for_group"]:
                err.print(_no_worker(job), markup=False)
    if not quiet:
        out.print()
    return dict(client.get(f"/v1/jobs/{job_id}"))


def _no_worker(job: Mapping[str, Any]) -> str:
    return f"no live worker serves {job['queue']}; start one"


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
