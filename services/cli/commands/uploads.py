"""Commands about adapters and data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, client, delete_each

if TYPE_CHECKING:
    from signalbox.results import Adapter

adapters = typer.Typer(no_args_is_help=True, help="Adapters: upload, list, show, delete.")
datasets = typer.Typer(no_args_is_help=True, help="Data sets: upload, list, delete.")


@adapters.command("add")
def adapters_add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    label: Annotated[str, typer.Option(help="domain.task")],
    instruction: str = "",
    template: str = "chatml",
    base_model: Annotated[str, typer.Option(help="Its pin; needed only where workers serve several.")] = "",
    i_know: Annotated[bool, typer.Option("--i-know", help="Take it though its config names another base.")] = False,
    json: Json = False,
) -> None:
    """Upload a PEFT folder (adapter_config.json and adapter_model.safetensors), and say what was resolved in it."""
    adapter = client().upload_adapter(
        folder, label, instruction=instruction, template=template, base_model=base_model, confirm_base=i_know
    )
    _show(adapter, json)


@adapters.command("list")
def adapters_list(json: Json = False) -> None:
    """List every version of every adapter."""
    rows = [adapter.to_dict() for adapter in client().adapters()]
    lines = rows if json else [row | {"notes": len(row.get("notes", []))} for row in rows]
    output.table(lines, ["label", "version", "digest", "base_model", "notes", "created_at"], as_json=json)


@adapters.command("show")
def adapters_show(ref: str, json: Json = False) -> None:
    """Show one adapter, by label@n or digest."""
    _show(client().adapter(ref), json)


def _show(adapter: "Adapter", as_json: bool) -> None:
    record = adapter.to_dict()
    output.record(record if as_json else record | {"notes": "; ".join(adapter.notes)}, as_json=as_json)


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
