"""Commands of `signalbox` for research; an entry point adds them, and the product does not depend on them."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli import output


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("run-reference", rich_help_panel="Research")(run_reference)
    app.command(rich_help_panel="Research")(reproduce)


def run_reference(
    text: Annotated[list[str] | None, typer.Argument(help="Texts to answer.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON lines of {instruction?, input}; a label is not looked at."
        ),
    ] = None,
    instruction: Annotated[str, typer.Option(help="For the texts; the adapter's own where it is missing.")] = "",
    release: Annotated[str, typer.Option(help="Id; the current one where it is missing.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write here instead of printing.")] = None,
) -> None:
    """Answer texts step by step, without queues.

    One process goes through selector, adapter index, adapter with its template and generation. One JSON line a
    text: label, probability, adapter, text. No queue, no engine, no batch; greedy, in float32.
    """
    from lab.run_reference import read_questions
    from lab.run_reference import run_reference as run
    from services.cli.evaluate.reference import open_reference
    from services.cli.local.run_state import current_settings

    if not (text or data):
        raise typer.BadParameter('give texts, or a file of them: run-reference "my card was declined" or --data FILE')
    questions = read_questions(text or [], instruction, data)
    reference = open_reference(current_settings(), release)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") if out else contextlib.nullcontext(sys.stdout) as stream:
        for record in run(reference, questions, max_new_tokens):
            output.json_line(record, stream)


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help="table1, table1-answers, table2 to 4, figure2, figure4, goals; multitask-table1, -table2, -table9."
        ),
    ],
    base: Annotated[str, typer.Option(help="Base model of the running system: a folder, a hub name, or smollm2.")],
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of <domain>.<task>.train.jsonl.gz and .test.")
    ],
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="Reports, and what is finished so far.")],
    quick: Annotated[bool, typer.Option("--quick", help="A reduced grid for a machine without a GPU.")] = False,
    only: Annotated[list[str], typer.Option(help="Run this condition alone; repeat for more.")] = [],  # noqa: B006
) -> None:
    """Make a table or figure of the paper.

    Its conditions are training jobs, and our figures stand beside the paper's. A finished condition is not run
    again, and a queued one is waited for: run it again to go on.
    """
    from lab.reproduce.multitask_run import reproduce as run_multitask
    from lab.reproduce.run import reproduce as run

    if table.startswith("multitask-"):
        sys.exit(run_multitask(table, base, data, folder, quick=quick))
    sys.exit(run(table, base, data, folder, quick=quick, only=only))
