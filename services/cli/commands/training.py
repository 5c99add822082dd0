"""Commands that queue training jobs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import multitask_pages, output, training_pages
from services.cli.commands import completion
from services.cli.commands.common import Json, Wait, client, end_of, goes_on_without, pairs
from services.cli.progress import follow_training
from shared.contracts.durations import in_words

if TYPE_CHECKING:
    from signalbox import Job, Signalbox, TrainingEstimate

app = typer.Typer(no_args_is_help=True, help="Queue training jobs.")


def submit_training(
    body: dict[str, Any], settings: Path | None, *, confirm: bool, dry_run: bool, wait: bool, as_json: bool
) -> None:
    """Say what a training will take, and queue it unless this is a dry run."""
    if dry_run and wait:
        raise typer.BadParameter("--dry-run starts nothing that --wait could follow")
    api = client()
    body |= _read_settings(settings)
    if confirm:
        body["confirm_cost"] = True
    found = api.estimate(**body)
    output.err.print(_cost(found, confirmed=body.get("confirm_cost") is True), soft_wrap=True)
    if dry_run:
        output.record(found.to_dict() if as_json else training_pages.forecast(found), as_json=as_json)
        return
    queue(api, body, wait=wait, as_json=as_json)


def _read_settings(file: Path | None) -> dict[str, Any]:
    import json as jsonlib

    try:
        return dict(jsonlib.loads(file.read_text())) if file else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is not a JSON object: {error}") from error


def queue(api: "Signalbox", body: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Queue a training, and follow it to its end where somebody waits."""
    show_queued(api, api.train(**body), wait=wait, as_json=as_json)


def show_queued(api: "Signalbox", job: "Job", *, wait: bool, as_json: bool) -> None:
    """Show a training job, or with `wait` what came of it."""
    if wait:
        with goes_on_without(job.id):
            output.err.print(f"waiting for {job.id}", soft_wrap=True)
            ended = follow_training(api, job.id, quiet=as_json)
        _show(ended, as_json=as_json)
    else:
        output.job(job.to_dict(), as_json=as_json)


def _show(ended: dict[str, Any], *, as_json: bool) -> None:
    if not as_json and multitask_pages.has_page(ended):
        multitask_pages.page(ended["result"])
    elif as_json or not training_pages.has_page(ended):
        end_of(ended, as_json=as_json)
    else:
        training_pages.page(ended)


def _cost(found: "TrainingEstimate", *, confirmed: bool) -> str:
    """What a training will take, in a sentence."""
    if found.language_model == "none":
        return "words alone are trained, in seconds"
    if found.estimate is None:
        takes = "how long is not known: no trainer has told its speed yet"
    else:
        takes = "for about {seconds} ({steps} steps, {tokens} tokens, {basis})".format(
            **{**found.estimate, "seconds": in_words(found.estimate["seconds"])}
        )
    if found.language_model in ("trained", "asked"):
        return f"the language model {'trains' if found.language_model == 'trained' else 'answers rows'} {takes}"
    above = f", above the limit of {in_words(found.limit_seconds)}: only with --confirm-cost"
    unless = above if found.needs_confirmation and not confirmed else ""
    return f"words first, in seconds; where they are not enough, the language model trains {takes}{unless}"


SettingsFile = Annotated[
    Path | None, typer.Option("--settings", exists=True, dir_okay=False, help="JSON merged into the job's body.")
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print rows, tokens, steps, memory and time; start nothing.")]
Confirm = Annotated[
    bool, typer.Option("--confirm-cost", help="Train also where the estimate is above the operator's limit.")
]


@app.command("adapter")
def train_adapter(
    label: Annotated[str, typer.Option(help="domain.task, or one word.")],
    dataset: Annotated[str, typer.Option(help="Id or name.", autocompletion=completion.datasets)],
    long_answers: Annotated[
        str, typer.Option(help="Of answers that do not fit into max_length: refuse, cut or leave_out; default: refuse.")
    ] = "",
    on: Annotated[
        str,
        typer.Option(
            help="Train it over this adapter, such as a domain's: both are active.", autocompletion=completion.adapters
        ),
    ] = "",
    constrain: Annotated[
        str, typer.Option(help="Bind its answers to those of its rows: none, auto or answers; default: none.")
    ] = "",
    settings: SettingsFile = None,
    confirm: Confirm = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train one label's adapter on a data set."""
    body = {"kind": "adapter.train", "label": label, "dataset": dataset}
    options = {"long_answers": long_answers, "on": on, "constrain": constrain}
    body |= {name: value for name, value in options.items() if value}
    submit_training(body, settings, confirm=confirm, dry_run=dry_run, wait=wait, as_json=json)


@app.command("selector")
def train_selector(
    label: Annotated[
        list[str], typer.Option(help="label=data set; repeat for every label. With --balance: the hard ones.")
    ] = [],  # noqa: B006
    background: Annotated[str | None, typer.Option(help="Data set of texts that belong to no label.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the current release instead of starting over.")] = False,
    balance: Annotated[
        bool, typer.Option("--balance", help="Fewer rows for the current release's easy labels, more for hard ones.")
    ] = False,
    delete: Annotated[list[str], typer.Option(help="Take a label out of the current release; repeat for more.")] = [],  # noqa: B006
    retention: Annotated[
        str, typer.Option(help="Share of old rows that --add, --balance and --delete train on again: 0 to 1, or auto.")
    ] = "",
    kind: Annotated[
        str,
        typer.Option(
            help="auto, prototypes, light, llm or cascade; default: auto. An update takes auto, prototypes or light."
        ),
    ] = "",
    readout: Annotated[str, typer.Option(help="The language model's answer: auto, names or head.")] = "",
    promote: Annotated[bool, typer.Option(help="Make it current if the gate passes.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let the current release's other labels go; they are named.")
    ] = False,
    settings: SettingsFile = None,
    confirm: Confirm = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train a selector over labels, or update the current one.

    An update adds labels, balances them, or deletes some.
    """
    if add + balance + bool(delete) > 1 or (delete and label):
        raise typer.BadParameter("one of --add, --balance and --delete at a time; --delete takes no --label")
    if not (label or balance or delete):
        raise typer.BadParameter("name labels: --label label=dataset")
    body: dict[str, Any] = {
        "kind": "selector." + ("add" if add else "balance" if balance else "delete" if delete else "train"),
        "labels": delete or pairs(label, "--label", "label=dataset") or {},
        "promote": promote,
    }
    if replace and body["kind"] == "selector.train":
        body["drop"] = sorted(set(client().release().labels) - set(body["labels"]))
        output.err.print(f"the current release's labels that go: {', '.join(body['drop']) or 'none'}")
    options = {"background": background, "selector": kind, "readout": readout, "retention": retention}
    body |= {name: value for name, value in options.items() if value not in ("", None)}
    submit_training(body, settings, confirm=confirm, dry_run=dry_run, wait=wait, as_json=json)


@app.command("review")
def review_traffic(
    window: Annotated[int | None, typer.Option(help="Requests of a window; default: 500.", min=100)] = None,
    windows: Annotated[int | None, typer.Option(help="Newest windows to compare; default: 8.", min=1)] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Say what has changed in the traffic log.

    Its newest requests are compared with the first ones of the current release. It trains nothing.
    """
    body: dict[str, Any] = {"kind": "traffic.review"}
    body |= {name: value for name, value in {"window": window, "windows": windows}.items() if value is not None}
    queue(client(), body, wait=wait, as_json=json)


@app.command("clean")
def clean_corpus(
    corpus: Annotated[str, typer.Argument(help="Id or name.", autocompletion=completion.corpora)],
    name: Annotated[str, typer.Option(help="Of the cleaned corpus; default: NAME-clean.")] = "",
    field: Annotated[str, typer.Option(help="Member of JSON objects that holds the text; default: text.")] = "",
    good: Annotated[str, typer.Option(help="Cleaned corpus of good texts, which the quality filter learns from.")] = "",
    without: Annotated[
        list[str], typer.Option(help="A module to leave out, such as quality_filter; repeat for more.")
    ] = [],  # noqa: B006
    settings: SettingsFile = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Make documents to train on of a corpus' raw files.

    Five modules: document_filter, line_correction, exact_deduplication, quality_filter, fuzzy_deduplication.
    """
    body: dict[str, Any] = {"kind": "corpus.clean", "corpus": corpus}
    body |= {name: value for name, value in {"name": name, "field": field}.items() if value}
    body |= {"quality_filter": {"good_corpus": good}} if good else {}
    body |= {module: False if module == "exact_deduplication" else None for module in without}
    queue(client(), body | _read_settings(settings), wait=wait, as_json=json)


@app.command("comparison")
def train_comparison(
    label: Annotated[list[str], typer.Option(help="label=data set; repeat for every label.")],
    model: Annotated[str, typer.Option(help="multi-task-lora or moe-lora.")] = "multi-task-lora",
    settings: SettingsFile = None,
    confirm: Confirm = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train one model on all labels, to compare routing with.

    It has no selector; it is measured, and not kept.
    """
    body = {"kind": "comparison.train", "model": model, "labels": pairs(label, "--label", "label=dataset")}
    submit_training(body, settings, confirm=confirm, dry_run=dry_run, wait=wait, as_json=json)
