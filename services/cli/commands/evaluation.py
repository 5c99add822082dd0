"""Commands that measure on labelled rows."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json
from services.cli.evaluate import tables
from shared.contracts.labels import parse_label, short_form

app = typer.Typer(no_args_is_help=True, help="Measure selectors, adapters, releases on labelled rows.")


Label = Annotated[str, typer.Option(metavar="LABEL", help="Of rows that carry none; default: that of the file's name.")]


def _label(text: str) -> str:
    return str(parse_label(text)) if text else ""


@app.command("selector")
def evaluate_selector(
    data: Annotated[
        list[Path], typer.Option(exists=True, help="Rows in any form that `datasets add` takes; files or folders.")
    ],
    text: Annotated[
        str, typer.Option(help="input or instruction+input; default: what the release's selector reads.")
    ] = "",
    release: Annotated[str, typer.Option(help="Id; default: the current one.")] = "",
    plot: Annotated[Path | None, typer.Option(help="Draw a cascade's accuracy against cost into this PNG.")] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draw the confusion matrix into this PNG; JSON and a table go beside it."),
    ] = None,
    label: Label = "",
    json: Json = False,
) -> None:
    """Measure a release's selector.

    Prints joint, domain and task accuracy, that of each label, confusion and calibration. Intervals are 95 %
    binomial intervals over rows. `sets` says whether these rows bear out the coverage that the release states for
    its label sets. Rows of labels that the selector does not know are counted, not measured.
    """
    from services.cli.evaluate.plots import plot_curve, write_confusion
    from services.cli.evaluate.selector import evaluate_selector as run

    if confusion and confusion.suffix != ".png":
        raise typer.BadParameter("--confusion names a picture: confusion.png")
    found = run(data, text, release, _label(label))
    if plot:
        plot_curve(found, plot)
    if confusion:
        write_confusion(found, confusion)
    tables.show_selector(found, as_json=json)


@app.command("system")
def evaluate_system(
    data: Annotated[
        list[Path], typer.Option(exists=True, help="Rows in any form that `datasets add` takes; files or folders.")
    ],
    release: Annotated[str, typer.Option(help="Id; default: the current one.")] = "",
    classification: Annotated[list[str], typer.Option(help="Labels judged by exact match.", parser=short_form)] = [],  # noqa: B006
    generation: Annotated[list[str], typer.Option(help="Labels judged by similarity.", parser=short_form)] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each label; default: all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 128,
    rows: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write each row with its answers into this file.")
    ] = None,
    label: Label = "",
    json: Json = False,
) -> None:
    """Measure a release end to end.

    Prints the selector alone, the right adapter's answers and the routed answers. A task with at least five rows
    per distinct answer is a classification, measured by exact match. The answers of any other task are compared by
    BERTScore if SIGNALBOX_ENCODER names an encoder, else by ROUGE-L. This process answers the rows one at a time,
    without queues, as `run-reference` does.
    """
    from services.cli.evaluate.system import EvaluationPlan
    from services.cli.evaluate.system import evaluate_system as run

    plan = EvaluationPlan(data, release, classification, generation, limit, max_new_tokens, rows, _label(label))
    tables.show_system(run(plan), as_json=json)


@app.command("adapter")
def evaluate_adapter(
    label: Annotated[str, typer.Option(help="Label of the current release, or label@n")],
    data: Annotated[
        list[Path], typer.Option(exists=True, help="Rows in any form that `datasets add` takes; files or folders.")
    ],
    limit: Annotated[int, typer.Option(min=1)] = 200,
    json: Json = False,
) -> None:
    """Measure an adapter beside the base model without it.

    Prints the exact match of both.
    """
    from services.cli.evaluate.selector import evaluate_adapter as run

    output.record(run(label, data, limit), as_json=json)
