"""Commands about adapters and data sets."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, client, delete_each
from services.cli.commands.template_check import check_template

adapters = typer.Typer(no_args_is_help=True, help="Adapters: upload, check, list, show, delete.")
datasets = typer.Typer(no_args_is_help=True, help="Data sets: upload, list, delete.")

Examples = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Rows with the right outputs: finds out the adapter's template."),
]


@adapters.command("add")
def adapters_add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    label: Annotated[str, typer.Option(help="domain.task")],
    instruction: str = "",
    template: str = "chatml",
    base_model: Annotated[str, typer.Option(help="Its pin; needed only where workers serve several.")] = "",
    examples: Examples = None,
    json: Json = False,
) -> None:
    """Upload a PEFT folder (adapter_config.json and adapter_model.safetensors)."""
    adapter = client().upload_adapter(folder, label, instruction=instruction, template=template, base_model=base_model)
    output.record(adapter.to_dict(), as_json=json)
    if examples:
        check_template(adapter.ref, examples, sets=True, as_json=json)


@adapters.command("check")
def adapters_check(
    ref: Annotated[str, typer.Argument(help="Label, label@n or digest.")],
    examples: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Rows with the outputs that are right; ten are enough.")
    ],
    keep: Annotated[bool, typer.Option("--keep", help="Only look: set no template.")] = False,
    json: Json = False,
) -> None:
    """Find out which template an adapter was trained with; a clear one becomes its next version's."""
    check_template(ref, examples, sets=not keep, as_json=json)


@adapters.command("list")
def adapters_list(json: Json = False) -> None:
    """List every version of every adapter."""
    rows = [adapter.to_dict() for adapter in client().adapters()]
    output.table(rows, ["label", "version", "digest", "base_model", "created_at"], as_json=json)


@adapters.command("show")
def adapters_show(ref: str, json: Json = False) -> None:
    """Show one adapter, by label@n or digest."""
    output.record(client().adapter(ref).to_dict(), as_json=json)


@adapters.command("rm")
def adapters_rm(refs: Annotated[list[str], typer.Argument(metavar="LABEL@N...")]) -> None:
    """Delete versions that no release and no unfinished training names."""
    delete_each(client().delete_adapter, refs)


@datasets.command("add")
def datasets_add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], name: str = "", json: Json = False
) -> None:
    """Upload JSON lines of {instruction?, input, output?, label?}, gzipped or not."""
    output.record(client().upload_dataset(file, name).to_dict(), as_json=json)


@datasets.command("list")
def datasets_list(json: Json = False) -> None:
    """List data sets."""
    rows = [dataset.to_dict() for dataset in client().datasets()]
    output.table(rows, ["id", "name", "rows", "created_at"], as_json=json)


@datasets.command("rm")
def datasets_rm(refs: Annotated[list[str], typer.Argument(metavar="ID|NAME...")]) -> None:
    """Delete data sets that no unfinished training needs; `feedback`: with all that was given."""
    delete_each(client().delete_dataset, refs)
