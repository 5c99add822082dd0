"""Commands that start routing from a labels file, and try it."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output, training_pages
from services.cli.commands.common import Json, client, goes_on_without
from services.cli.progress import follow_training

if TYPE_CHECKING:
    from signalbox import Signalbox
    from signalbox.results import Adapter

    from services.cli.importing.entries import Entry
    from services.cli.labels_file import LabelEntry, LabelsFile

app = typer.Typer(no_args_is_help=True, help="Routing from little: a labels file in, a selector out.")
_SHOWN = 10
"""Labels and reasons on the screen; the release's report has all."""
_CHOICE = ("label", "probability", "ambiguous", "choices", "runners_up", "label_set", "by", "release", "score_ms")


@app.command("init")
def route_init(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML; docs/method.md shows one.")],
    kind: Annotated[str, typer.Option(help="prototypes, or auto, light, llm or cascade.")] = "prototypes",
    promote: Annotated[
        bool | None, typer.Option("--promote/--no-promote", help="Make it current if the gate passes; default: ask.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let the current release's other labels go; they are named.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a selector of a labels file and offer to promote it.

    An entry has `label` and, where needed, `adapter`, `description`, `examples`, `group`, `template`, `instruction`;
    beside `labels` there may be `background` and `ambiguous`.
    """
    from services.cli.labels_file import read_labels

    api, labels = client(), read_labels(file)
    body = {"selector": kind, "promote": promote or False, **_sources(api, labels, file)}
    if replace:
        body["drop"] = sorted(set(api.release().labels) - set(body["labels"]))
        output.err.print(f"the current release's labels that go: {', '.join(body['drop']) or 'none'}")
    job = api.train("selector.train", **body)
    with goes_on_without(job.id):
        ended = follow_training(api, job.id, quiet=json)
    _show(ended, as_json=json)
    if promote is None and not json:
        _offer(api, ended["result"])


@app.command("try")
def route_try(text: str, instruction: str = "", json: Json = False) -> None:
    """Show which label a text gets, and how sure that is.

    The current release selects it; nothing is generated.
    """
    chosen = client().select(text, instruction=instruction).to_dict()
    output.record(chosen if json else {name: chosen.get(name) for name in _CHOICE}, as_json=json)


def _sources(api: "Signalbox", labels: "LabelsFile", file: Path) -> dict[str, Any]:
    """The members of the training's body that say what the labels are; uploads what lies beside the file."""
    folders = {entry.label: _upload_of(file, entry) for entry in labels.labels if _is_folder(file, entry.adapter)}
    refs = {entry.label: entry.adapter for entry in labels.labels if entry.adapter and entry.label not in folders}
    known = api.adapters()
    _check_adapters(known, labels, refs, folders)
    refs |= {label: _uploaded(api, known, upload) for label, upload in folders.items()}
    rows, name = labels.rows, _dataset_name(file)
    examples = api.upload_dataset(rows, name).id if rows else None
    background = [{"input": text} for text in labels.background]
    return {
        "labels": {entry.label: examples if entry.examples else None for entry in labels.labels},
        "descriptions": {entry.label: entry.description for entry in labels.labels if entry.description},
        "adapters": refs,
        **{f"{name}s": _named(labels, name) for name in ("group", "template", "instruction")},
        "ambiguous": labels.ambiguous,
        "background": api.upload_dataset(background, f"{name}.background").id if background else None,
    }


def _named(labels: "LabelsFile", field: str) -> dict[str, str]:
    """What the file says in a field, by label."""
    return {entry.label: value for entry in labels.labels if (value := getattr(entry, field))}


def _is_folder(file: Path, adapter: str) -> bool:
    return bool(adapter) and (file.parent / adapter).is_dir()


def _upload_of(file: Path, entry: "LabelEntry") -> "Entry":
    from services.cli.importing.entries import Entry

    return Entry(entry.label, file.parent / entry.adapter, template=entry.template, instruction=entry.instruction)


def _uploaded(api: "Signalbox", known: Sequence["Adapter"], entry: "Entry") -> str:
    """Upload a folder unless it is stored; says by which template it is asked, or which one it is that is refused.

    Of what is stored the newest version with the named template and instruction counts: where none is named, its
    template may be one that `adapters check` has set.
    """
    from signalbox.uploads import pack_adapter

    from services.cli.errors import known_errors
    from services.cli.importing.run import stored_as

    try:
        archive = pack_adapter(entry.folder)
        stored = stored_as(known, entry, archive) or api.upload_adapter(
            entry.folder, entry.label, template=entry.template, instruction=entry.instruction, archive=archive
        )
    except known_errors():
        output.err.print(f"{entry.label}: {entry.folder} is not taken", markup=False, soft_wrap=True)
        raise
    said = "; ".join([f"asked by the template {stored.template}", *stored.notes])
    output.err.print(f"{entry.label}: {stored.ref}, {said}", markup=False, soft_wrap=True)
    return stored.ref


def _check_adapters(
    stored: Sequence["Adapter"], labels: "LabelsFile", refs: dict[str, str], folders: Container[str]
) -> None:
    """Raise `NotFound` that names every label whose adapter is neither stored nor beside the file."""
    from shared.errors import NotFound

    known = {name for adapter in stored for name in (adapter.ref, adapter.label, adapter.digest)}
    named = {entry.label: refs.get(entry.label, entry.label) for entry in labels.labels if entry.label not in folders}
    missing = [f"{label} ({ref})" if ref != label else label for label, ref in named.items() if ref not in known]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise NotFound(
            "adapter_not_found",
            f"no adapter of {', '.join(missing[:_SHOWN])}{more}: upload each (`signalbox adapters add FOLDER --label "
            "LABEL`), or name its PEFT folder under `adapter`",
        )


def _dataset_name(file: Path) -> str:
    import re

    return "route." + (re.sub("[^a-z0-9_]+", "-", file.stem.lower()).strip("-_")[:40] or "labels")


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    """Show what came of it; exits with status 1 where there is no release."""
    result = job.get("result")
    if as_json or not result:
        output.job(job, as_json=as_json)
    else:
        facts = {"release": result["release"], "selector": result["selector"]}
        facts |= {"accuracy": training_pages.accuracy_of(result), "why": result["why"]}
        output.record(facts, as_json=False)
        training_pages.warn(result)
    if not result:
        raise typer.Exit(1)


def _offer(api: "Signalbox", result: dict[str, Any]) -> None:
    release, verdict = result["release"], result["verdict"]
    if not verdict["passed"]:
        reasons = " ".join(verdict["reasons"][:_SHOWN])
        output.err.print(f"the gate does not pass: {reasons}", markup=False, soft_wrap=True)
        output.err.print(f"`signalbox releases promote {release} --force` overrules it", soft_wrap=True)
    elif output.out.is_terminal and typer.confirm("Make it the current release?", default=True):
        api.promote(release)
        output.err.print("it is current: `signalbox route try TEXT` shows a choice", soft_wrap=True)
    else:
        output.err.print(f"`signalbox releases promote {release}` makes it current", soft_wrap=True)
