"""Commands about prompt templates."""

import json as jsonlib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import output
from services.cli.commands.common import Json, client, delete_each
from services.cli.errors import known_errors

app = typer.Typer(no_args_is_help=True, help="Prompt templates: add, list, show, delete.")


@app.command("add")
def templates_add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A chat template in Jinja, or JSON.")],
    name: Annotated[str, typer.Option(help="By default the file's name without its ending.")] = "",
    end: Annotated[str, typer.Option(help="Token that ends an answer; by default what the template shows.")] = "",
    stop: Annotated[list[str], typer.Option(help="One more token at which an answer ends; repeat for more.")] = [],  # noqa: B006
    control: Annotated[
        list[str], typer.Option(help="Token that a base model's vocabulary must have; by default what looks like one.")
    ] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Add a named template.

    FILE.jinja is a chat template as tokenizers bring it, FILE.json holds the frames of turns.
    """
    template = _read(file) | {"name": name or file.name.split(".")[0].lower()}
    given = {"end": end, "stops": stop, "controls": control}
    template |= {field: value for field, value in given.items() if value}
    output.record(client().add_template(**template).to_dict(), as_json=json)


@app.command("list")
def templates_list(json: Json = False) -> None:
    """List built-in templates and those that were added."""
    rows = [template.to_dict() for template in client().templates()]
    output.table(rows, ["name", "built_in", "digest", "controls"], as_json=json, one="signalbox templates show NAME")


@app.command("show")
def templates_show(name: str, json: Json = False) -> None:
    """Show one template with all its fields."""
    output.record(client().template(name).to_dict(), as_json=json)


@app.command("rm")
def templates_rm(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Delete templates that nothing names.

    Adapters, releases and unfinished trainings name them.
    """
    delete_each(client().delete_template, names)


def _read(file: Path) -> dict[str, Any]:
    """Return a file's template: JSON's own fields, or Jinja with the control tokens that it names."""
    from shared.contracts.templates import control_strings

    try:
        text = file.read_text(encoding="utf-8")
        template = jsonlib.loads(text) if file.suffix == ".json" else None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is no UTF-8 text, or no JSON: {error}") from error
    if template is None:
        _try_out(text, file)
        return {"jinja": text, "controls": control_strings(text)}
    if not isinstance(template, dict):
        raise typer.BadParameter(f"{file} holds no JSON object")
    return template


def _try_out(jinja: str, file: Path) -> None:
    """Refuse a chat template that no worker would take, where this machine can render one."""
    if find_spec("jinja2") is None:  # only models' packages bring it
        return
    from shared.contracts.conversation import message
    from shared.prompts.cut import Shape, frame_of
    from shared.prompts.rendering import ChatTemplate

    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    try:
        frame_of(ChatTemplate(jinja, tokens), Shape.of([message("user", "a")]), file.name)
    except known_errors() as error:
        raise typer.BadParameter(str(error)) from error
