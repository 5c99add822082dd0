"""Commands of an operator about all that is kept: garbage, backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this, it is only shown.")] = False,
    grace_hours: Annotated[
        float, typer.Option(help="What was written later than this stays: an upload may be under way.", min=0)
    ] = 24,
    json: Json = False,
) -> None:
    """Show what of the store nothing names, or delete it.

    Adapters, data sets, releases and unfinished jobs name objects.
    """
    from datetime import UTC, datetime, timedelta

    from services.cli.local.embedded import upkeep
    from services.cli.local.run_state import current_registry, current_settings
    from shared.registry.collect import collect, garbage

    settings = current_settings()
    registry = current_registry(settings)
    with upkeep(settings.data_dir):
        found = garbage(registry, datetime.now(UTC) - timedelta(hours=grace_hours))
        gone = list(collect(registry.store, found)) if delete else found
    rows = [{"key": one.key, "bytes": one.size_bytes, "written": one.modified_at.isoformat()} for one in gone]
    output.table(rows, ["key", "bytes", "written"], as_json=json)
    size = f"{len(gone)} objects, {sum(one.size_bytes for one in gone) / 2**20:.1f} MiB"
    shown = f"{size}, that nothing names; `signalbox gc --delete` deletes them"
    output.err.print(f"deleted {size}" if delete else shown, highlight=False, soft_wrap=True)


def backup(file: Annotated[Path, typer.Argument(dir_okay=False)], json: Json = False) -> None:
    """Write the whole system of the data folder into one file.

    The file holds texts and hashes of keys.
    """
    from services.cli.local.backup import backup as run
    from shared.settings import Settings

    with output.out.status("copying the ledger, then the objects"):
        done = run(Settings(), file)
    output.record(done._asdict(), as_json=json)
    if done.corrupt:
        output.err.print(f"left out, because they do not match their digests: {', '.join(done.corrupt)}")
        raise typer.Exit(1)


def restore(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], json: Json = False) -> None:
    """Make the system of a backup in an empty data folder.

    `signalbox up` then starts it.
    """
    from services.cli.local.restoring import restore as run
    from shared.settings import Settings

    with output.out.status("comparing every file with its digest"):
        done = run(Settings(), file)
    output.record(done._asdict(), as_json=json)
