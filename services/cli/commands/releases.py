"""Commands about releases."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output, release_pages
from services.cli.commands import completion
from services.cli.commands.common import Json, client, delete_each, pairs, redis
from services.cli.commands.completion import ReleaseId

if TYPE_CHECKING:
    from signalbox import Release

app = typer.Typer(no_args_is_help=True, help="Releases: list, show, diff, edit, promote, roll back.")


@app.command("list")
def releases_list(json: Json = False) -> None:
    """List releases, oldest first."""
    release_pages.rows([release.to_dict() for release in client().releases()], as_json=json)


@app.command("show")
def releases_show(
    release_id: Annotated[
        str, typer.Argument(help="Id, or `current`.", autocompletion=completion.releases)
    ] = "current",
    json: Json = False,
) -> None:
    """Show one release: its facts and labels.

    With --json it shows the whole report.
    """
    release_pages.page(client().release(release_id).to_dict(), as_json=json)


@app.command("diff")
def releases_diff(
    old: ReleaseId,
    new: Annotated[str, typer.Argument(help="Id, or `current`.", autocompletion=completion.releases)] = "current",
    json: Json = False,
) -> None:
    """Show in what two releases differ.

    They are compared by gate, selector, labels, adapters and accuracy.
    """
    api = client()
    release_pages.difference(api.release(old).to_dict(), api.release(new).to_dict(), as_json=json)


@app.command("edit")
def releases_edit(
    add: Annotated[list[str] | None, typer.Option(metavar="LABEL=ADAPTER", help="Label@n, label or digest.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="LABEL")] = None,
    set_template: Annotated[list[str] | None, typer.Option(metavar="LABEL=TEMPLATE")] = None,
    set_instruction: Annotated[list[str] | None, typer.Option(metavar="LABEL=TEXT")] = None,
    group: Annotated[list[str] | None, typer.Option(metavar="LABEL=GROUP")] = None,
    no_selector: Annotated[
        bool, typer.Option("--no-selector", help="Leave the selector away: requests name their label.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Reject texts of which the selector is less sure.")
    ] = None,
    reading: Annotated[
        str, typer.Option(help="What it reads of a conversation: last_turn, dialogue or instruction+input.")
    ] = "",
    harness_tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Programs write into user turns between such tags.")
    ] = None,
    start_from: Annotated[str, typer.Option("--from", help="Release id; default: the current one.")] = "",
    promote: Annotated[bool, typer.Option(help="Make it current at once.")] = False,
    json: Json = False,
) -> None:
    """Make a candidate by hand: add, remove or change labels.

    Nothing is trained; requests that name the labels reach them.
    """
    api = client()
    made = api.edit_release(
        add=pairs(add, "--add"),
        remove=remove,
        templates=pairs(set_template, "--set-template"),
        instructions=pairs(set_instruction, "--set-instruction"),
        groups=pairs(group, "--group"),
        keep_selector=not no_selector,
        threshold=threshold,
        reading=reading or None,
        harness_tags=harness_tag,
        start_from=start_from,
    )
    release_pages.page((api.promote(made.id) if promote else made).to_dict(), as_json=json)


@app.command("promote")
def releases_promote(release_id: ReleaseId, force: bool = False) -> None:
    """Make a candidate the current release."""
    _show_current(client().promote(release_id, force=force))


@app.command("rollback")
def releases_rollback(
    to: Annotated[str, typer.Option(help="Release id; default: the parent.", autocompletion=completion.releases)] = "",
    force: bool = False,
) -> None:
    """Go back to the parent of the current release."""
    _show_current(client().rollback(to, force=force))


@app.command("rebuild")
def releases_rebuild(release_id: ReleaseId, json: Json = False) -> None:
    """Train a candidate anew on the current release.

    For one whose parent was replaced meanwhile: the same data and settings.
    """
    job = client().rebuild(release_id)
    output.record({"job": job.id, "state": job.state}, as_json=json)


def _show_current(release: "Release") -> None:
    output.record({"current": release.id, "labels": sorted(release.labels)}, as_json=False)


@app.command("rm")
def releases_rm(
    release_ids: Annotated[list[str], typer.Argument(metavar="ID...", autocompletion=completion.releases)],
) -> None:
    """Delete releases that nothing needs.

    The current one and those of unfinished jobs stay.
    """
    delete_each(client().delete_release, release_ids)


@app.command("restore")
def releases_restore(json: Json = False) -> None:
    """Rebuild the index after the ledger was lost.

    Adapters, data sets and releases are read from the object store.
    """
    from services.cli.local.run_state import current_settings
    from shared.registry import restore
    from shared.registry.store import S3Store

    found = restore(redis(), S3Store(current_settings()))
    counted = ["adapters", "datasets", "releases", "templates", "aliases", "retirements", "files"]
    columns = ["tenant_id", *counted, "current", "unreadable"]
    output.table([one._asdict() for one in found], columns, as_json=json)
