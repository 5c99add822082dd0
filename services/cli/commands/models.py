"""Commands about the names by which requests ask for models."""

from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, client, delete_each

app = typer.Typer(no_args_is_help=True, help="What requests may name: list, show, give other names.")


@app.command("list")
def models_list(json: Json = False) -> None:
    """List all that requests may name.

    These are the base model, `auto`, labels, adapters' versions, and other names for them.
    """
    rows = [model.to_dict() for model in client().models()]
    lines = [row | row.get("signalbox", {}) for row in rows]
    output.table(lines, ["id", "kind", "template", "model"], as_json=json, one="signalbox models show ID")


@app.command("show")
def models_show(name: str, json: Json = False) -> None:
    """Show one model, by any of its names or its digest."""
    output.record(client().model(name).to_dict(), as_json=json)


@app.command("alias")
def models_alias(
    name: Annotated[str, typer.Argument(help="The name that requests ask for, such as gpt-4o-mini.")],
    model: Annotated[str, typer.Argument(help="auto, base, a label, label@n or a digest.")],
    json: Json = False,
) -> None:
    """Give a model another name.

    Code that asks for somebody else's model then runs unchanged.
    """
    output.record(client().set_alias(name, model).to_dict(), as_json=json)


@app.command("unalias")
def models_unalias(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Take other names away."""
    delete_each(client().delete_alias, names)
