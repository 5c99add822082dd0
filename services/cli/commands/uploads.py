"""Commands about adapters and data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.commands import completion
from services.cli.commands.common import Json, Wait, client, delete_each
from services.cli.commands.completion import AdapterRef
from services.cli.commands.composition import compose_adapters
from services.cli.commands.template_check import check_template
from shared.data_files.columns import parse_columns
from shared.data_files.refusals import RowsRefused

if TYPE_CHECKING:
    from signalbox.results import Adapter

adapters = typer.Typer(no_args_is_help=True, help="Adapters: upload, check, compose, list, show, export, delete.")
datasets = typer.Typer(no_args_is_help=True, help="Data sets: upload, list, delete.")

Examples = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Rows with the right outputs: finds out the adapter's template."),
]


@adapters.command("add")
def adapters_add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    label: Annotated[str, typer.Option(help="domain.task, or one word.")],
    instruction: str = "",
    template: Annotated[str, typer.Option(help="How it was prompted; by default the base model's usual one.")] = "",
    base_model: Annotated[str, typer.Option(help="Its pin; needed only where workers serve several.")] = "",
    i_know: Annotated[bool, typer.Option("--i-know", help="Take it though its config names another base.")] = False,
    examples: Examples = None,
    json: Json = False,
) -> None:
    """Upload a PEFT folder, and say what was resolved in it.

    It holds adapter_config.json and adapter_model.safetensors.
    """
    adapter = client().upload_adapter(
        folder, label, instruction=instruction, template=template, base_model=base_model, confirm_base=i_know
    )
    _show(adapter, json)
    if examples:
        check_template(adapter.ref, examples, sets=True, as_json=json)


@adapters.command("import")
def adapters_import(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...|FILE.tsv...", exists=True, help="PEFT folders, folders of such, or tables."),
    ],
    template: Annotated[str, typer.Option(help="Of adapters that no table gives one.")] = "",
    base_model: Annotated[str, typer.Option(help="Its pin; needed only where workers serve several.")] = "",
    i_know: Annotated[bool, typer.Option("--i-know", help="Take those whose config names another base.")] = False,
    release: Annotated[bool, typer.Option("--release", help="Make them askable at once, in one promotion.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show labels, ranks and problems; upload nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Upload many adapters; run again, it goes on.

    What is stored already is not uploaded again. Labels are those of a table (columns label, folder, and template,
    instruction, base_model, group where needed), or are proposed from the names of folders.
    """
    from services.cli.importing import report
    from services.cli.importing.entries import read_entries

    entries = read_entries(sources, template, base_model)
    if dry_run:
        has_failed = report.dry_run(entries, as_json=json)
    else:
        has_failed = report.run(client(), entries, confirm_base=i_know, releases=release, as_json=json)
    if has_failed:
        raise typer.Exit(1)


@adapters.command("check")
def adapters_check(
    ref: Annotated[str, typer.Argument(help="Label, label@n or digest.", autocompletion=completion.adapters)],
    examples: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Rows with the outputs that are right; ten are enough.")
    ],
    keep: Annotated[bool, typer.Option("--keep", help="Only look: set no template.")] = False,
    json: Json = False,
) -> None:
    """Find out which template an adapter was trained with.

    A clear one becomes that of the adapter's next version.
    """
    check_template(ref, examples, sets=not keep, as_json=json)


@adapters.command("compose")
def adapters_compose(
    parts: Annotated[
        list[str],
        typer.Argument(metavar="PART[=WEIGHT]...", help="Two to eight adapters.", autocompletion=completion.adapters),
    ],
    label: Annotated[str, typer.Option(help="Whose next version they become.")],
    dataset: Annotated[
        str, typer.Option(help="Validation rows that judge it, by id or name.", autocompletion=completion.datasets)
    ] = "",
    method: Annotated[str, typer.Option(help="stack, svd, ties or dare_ties; default: stack, which is exact.")] = "",
    rank: Annotated[int | None, typer.Option(help="Of what the other methods merge to.", min=1)] = None,
    density: Annotated[float | None, typer.Option(help="Share of changes that ties and dare_ties keep.")] = None,
    unjudged: Annotated[bool, typer.Option("--unjudged", help="Publish it unmeasured, without rows.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Make one adapter of several, as a job.

    It measures base model, parts and composition, and publishes none that is worse than its better part by more than a
    point.
    """
    options = {"method": method, "rank": rank, "density": density, "dataset": dataset, "unjudged": unjudged}
    compose_adapters(label, parts, wait=wait, as_json=json, **options)


@adapters.command("list")
def adapters_list(json: Json = False) -> None:
    """List every version of every adapter."""
    rows = [adapter.to_dict() for adapter in client().adapters()]
    lines = rows if json else [row | {"notes": len(row.get("notes", []))} for row in rows]
    columns = ["label", "version", "template", "digest", "base_model", "notes", "created_at"]
    output.table(lines, columns, as_json=json, one="signalbox adapters show LABEL@N")


@adapters.command("show")
def adapters_show(ref: AdapterRef, json: Json = False) -> None:
    """Show one adapter, by label@n or digest."""
    _show(client().adapter(ref), json)


def _show(adapter: "Adapter", as_json: bool) -> None:
    record = adapter.to_dict()
    output.record(record if as_json else record | {"notes": "; ".join(adapter.notes)}, as_json=as_json)


@adapters.command("export")
def adapters_export(
    ref: Annotated[str, typer.Argument(help="Label, label@n or digest.")],
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="A new folder; by default one of the version's name.")
    ] = None,
    json: Json = False,
) -> None:
    """Write an adapter and a model card into a folder, as PEFT has it."""
    adapter = client().adapter(ref)
    folder = client().export_adapter(adapter.ref, out or Path(adapter.ref))
    written = {"ref": adapter.ref, "digest": adapter.digest, "folder": str(folder)}
    output.record(written, as_json=json)


@adapters.command("retire")
def adapters_retire(
    ref: Annotated[str, typer.Argument(metavar="LABEL@N", autocompletion=completion.adapters)],
    at: Annotated[str | None, typer.Option(help="From when on: 2026-12-31T00:00:00Z.")] = None,
    take_back: Annotated[bool, typer.Option("--take-back", help="It may be named again.")] = False,
    json: Json = False,
) -> None:
    """Refuse an adapter's name from a date on.

    Until then its answers warn.
    """
    if (at is None) == (not take_back):
        raise typer.BadParameter("give --at DATE, or --take-back")
    _show(client().retire_adapter(ref, at), json)


@adapters.command("rm")
def adapters_rm(
    refs: Annotated[list[str], typer.Argument(metavar="LABEL@N...", autocompletion=completion.adapters)],
) -> None:
    """Delete versions that no release or training names."""
    delete_each(client().delete_adapter, refs)


@datasets.command("add")
def datasets_add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    name: str = "",
    columns: Annotated[
        str, typer.Option(help="Which column or key holds which field: input=question,output=answer.")
    ] = "",
    accept_labels: Annotated[
        bool, typer.Option("--accept-labels", help="Take the labels that are proposed for those that are none.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the rows are and would train; upload nothing.")
    ] = False,
    template: Annotated[
        str, typer.Option(help="Of the rows that --dry-run shows; default: what is usual on the base model.")
    ] = "",
    json: Json = False,
) -> None:
    """Upload rows, or look at them first by --dry-run.

    The file has JSON lines, a JSON array, CSV or TSV, also packed by gzip or zstd. A row is {instruction?, input,
    output?, label?}, `messages`, sharegpt's `conversations`, prompt and completion, or question and answer.
    """
    from services.cli import dataset_pages
    from services.cli.dataset_check import check_file, preview_of

    named = parse_columns(columns)
    try:
        preview = preview_of(template) if dry_run else None
        found = check_file(file, named, accept_labels=accept_labels, preview=preview)
    except RowsRefused as error:
        dataset_pages.refusal(error, as_json=json)
        raise typer.Exit(1) from None
    if dry_run:
        dataset_pages.page(found, as_json=json)
        return
    stored = client().upload_dataset(file, name, columns=named, accept_labels=accept_labels)
    output.record(stored.to_dict(), as_json=json)


@datasets.command("list")
def datasets_list(json: Json = False) -> None:
    """List data sets."""
    rows = [dataset.to_dict() for dataset in client().datasets()]
    output.table(rows, ["id", "name", "rows", "created_at"], as_json=json)


@datasets.command("feedback")
def datasets_feedback(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows; store nothing.")] = False,
    safe: Annotated[
        bool, typer.Option("--safe", help="Only rows that may train unseen: no key alone makes many of them.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a version of `feedback` of what reviewers said by now."""
    output.record(client().feedback_dataset(dry_run=dry_run, safe=safe), as_json=json)


@datasets.command("conflicts")
def datasets_conflicts(
    before: Annotated[str | None, typer.Option(help="The page before named this as the next one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json: Json = False,
) -> None:
    """List jobs that keys labelled differently.

    Nothing said of them trains until a reviewer settles it.
    """
    page = client().feedback_conflicts(before=before, limit=limit)
    said = [{"job": one.job, **entry.to_dict()} for one in page.items for entry in one.said]
    output.table(
        page.to_dict()["items"] if json else said,
        ["job", "label", "key", "at", "reviewed"],
        as_json=json,
        one="signalbox jobs show ID",
    )
    if page.next:
        output.err.print(f"more: --before {page.next}")


@datasets.command("rm")
def datasets_rm(
    refs: Annotated[list[str], typer.Argument(metavar="ID|NAME...", autocompletion=completion.datasets)],
) -> None:
    """Delete data sets that no unfinished training needs.

    `feedback` goes with all that was given.
    """
    delete_each(client().delete_dataset, refs)
