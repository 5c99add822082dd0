"""Commands about what selectors read and decided."""

import json as jsons
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import output
from services.cli.commands.common import Json, client

app = typer.Typer(no_args_is_help=True, help="What selectors read and decided: a log, counts.")


@app.command("policy")
def traffic_policy(
    on: Annotated[bool | None, typer.Option("--on/--off", help="Whether anything is logged from now on.")] = None,
    share: Annotated[float | None, typer.Option(help="Part of the jobs that is kept.", min=0, max=1)] = None,
    days: Annotated[int | None, typer.Option(help="How long a row is kept.", min=1, max=365)] = None,
    rows: Annotated[int | None, typer.Option(help="Most rows; the oldest go first.", min=100, max=1_000_000)] = None,
    patterns: Annotated[
        Path | None,
        typer.Option(help="JSON file: a list of name, expression (RE2), replacement.", exists=True, dir_okay=False),
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Built-in pattern that is not applied; repeat it for more, `none` for all.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what the traffic log keeps, or change what is named of it."""
    api = client()
    changes: dict[str, Any] = {"on": on, "share": share, "days": days, "rows": rows}
    if patterns is not None:
        changes["patterns"] = _patterns(patterns)
    if leave_out is not None:
        changes["leave_out"] = [name for name in leave_out if name != "none"]
    given = {name: value for name, value in changes.items() if value is not None}
    policy = api.traffic_policy()
    output.record(api.set_traffic_policy(policy | given) if given else policy, as_json=json)


@app.command("list")
def traffic_list(
    after: Annotated[str | None, typer.Option(help="The page before named this as the next one.")] = None,
    since: Annotated[str | None, typer.Option(help="Selected then or later: 2026-01-31T08:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    json: Json = False,
) -> None:
    """List what the log keeps, oldest first."""
    page = client().traffic(after=after, since=since, limit=limit)
    columns = ["job", "at", "label", "best_label", "probability", "text"]
    output.table([row.to_dict() for row in page.items], columns, as_json=json, one="signalbox jobs show ID")
    if page.next:
        output.err.print(f"more: --after {page.next}")


@app.command("sketches")
def traffic_sketches(
    since: Annotated[str | None, typer.Option("--from", help="First hour: 2026-01-31T08:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last hour; by default a day up to now.")] = None,
    json: Json = False,
) -> None:
    """Tell how many selections each hour had, and how sure they were."""
    columns = ["hour", "release", "selections", "rejected", "disputed"]
    rows = [hour.to_dict() for hour in client().traffic_sketches(since=since, until=until)]
    output.table(rows, columns, as_json=json)


def _patterns(file: Path) -> Any:
    try:
        return jsons.loads(file.read_text())
    except ValueError as error:
        raise typer.BadParameter(f"{file} is no JSON ({error}); write a list of objects") from error
