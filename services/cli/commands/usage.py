"""The command that tells what jobs used."""

import csv
import sys
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, client


def usage(
    since: Annotated[str | None, typer.Option("--from", help="First day, UTC: 2026-01-31; by default 30 days.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day; by default today.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="`day`, `key` or `label`; repeat it for more.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Json = False,
) -> None:
    """Print requests and tokens by day, key or label."""
    found = client().usage(since=since, until=until, group_by=by)
    rows = [row.to_dict() for row in found.items]
    columns = [*(by or ["day"]), *found.total]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
    else:
        output.table(rows if json else [*rows, {columns[0]: "total", **found.total}], columns, as_json=json)
