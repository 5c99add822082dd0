"""Commands about what is uploaded: adapters and data sets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import output
from services.cli.commands.common import Json, client

adapters = typer.Typer(no_args_is_help=True, help="Adapters: upload, list, show.")
datasets = typer.Typer(no_args_is_help=True, help="Data sets: upload, list.")


@adapters.command("add")
def adapters_add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    label: Annotated[str, typer.Option(help="domain.task")],
    instruction: str = "",
    template: str = "chatml",
    json: Json = False,
) -> None:
    """Upload a PEFT folder (adapter_config.json and adapter_model.safetensors)."""
    from shared.adapter_files import adapter_digest, pack_adapter

    fields = {"label": label, "instruction": instruction, "template": template, "sha256": adapter_digest(folder)}
    files = {"file": ("adapter.tar", pack_adapter(folder))}
    output.record(client().post("/v1/adapters", data=fields, files=files, timeout=300), as_json=json)


@adapters.command("list")
def adapters_list(json: Json = False) -> None:
    """List every version of every adapter."""
    output.table(
        client().get("/v1/adapters")["items"],
        ["label", "version", "digest", "base_model", "created_at"],
        as_json=json,
    )


@adapters.command("show")
def adapters_show(ref: str, json: Json = False) -> None:
    """Show one adapter, by label@n or digest."""
    output.record(client().get(f"/v1/adapters/{ref}"), as_json=json)


@datasets.command("add")
def datasets_add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], name: str = "", json: Json = False
) -> None:
    """Upload JSON lines of {instruction?, input, output?, label?}, gzipped or not."""
    output.record(upload_dataset(client(), file, name), as_json=json)


def upload_dataset(api: Any, file: Path, name: str = "") -> Any:
    """Upload one file; answers its manifest."""
    import gzip

    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    headers = {"Content-Type": "application/x-ndjson"}
    title = name or file.name.split(".jsonl")[0]
    return api.post("/v1/datasets", content=content, headers=headers, params={"name": title}, timeout=300)


@datasets.command("list")
def datasets_list(json: Json = False) -> None:
    """List data sets."""
    output.table(client().get("/v1/datasets")["items"], ["id", "name", "rows", "created_at"], as_json=json)
