"""Commands about rebases: a release moved to another base model."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.commands.common import Json, client, goes_on_without, pairs
from services.cli.progress import follow_all
from shared.contracts.durations import in_words

if TYPE_CHECKING:
    from signalbox import Rebase, RebasePlan

app = typer.Typer(no_args_is_help=True, help="Rebases: a release moved to another base model.")
Id = Annotated[str, typer.Argument(metavar="ID")]
_GIB = 2**30
_FATES = {"train": "train", "stay": "is there", "keep": "keep", "leave_out": "leave out", "refuse": "cannot"}


def rebase(
    base: Annotated[str, typer.Option(help="The new base model: its pin, or what its trainer was started with.")],
    release: Annotated[str, typer.Option(help="The release to move; by default the current one.")] = "",
    missing: Annotated[
        str, typer.Option(help="Labels that cannot be trained: refuse, leave-out, or keep (on the old base model).")
    ] = "refuse",
    dataset: Annotated[
        list[str] | None, typer.Option(help="LABEL=NAME: train this label on another data set; repeat for more.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=NAME, or NAME in place of each template that does not fit the new base model."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan, and begin nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without a question, whatever it takes.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the trainings to their end.")] = False,
    json: Json = False,
) -> None:
    """Train a release anew on another base model.

    The plan comes first; the same command again goes on where it was.
    """
    asked = _asked(release, missing, dataset, template)
    found = client().plan_rebase(base, **asked)
    if plan:
        _plan(found, as_json=json)
        return
    if not json:
        _plan(found, as_json=False)
    if found.problems:
        output.error("rebase_blocked", " ".join(found.problems))
        raise typer.Exit(1)
    if not yes and output.out.is_terminal:
        typer.confirm("Begin?", default=True, abort=True)
    begun = client().begin_rebase(base, **asked, confirm_cost=True if yes or output.out.is_terminal else None)
    if wait:
        begun = _followed(begun, as_json=json)
    _page(begun, as_json=json)
    if wait and begun.state != "succeeded":
        raise typer.Exit(1)


@app.command("list")
def rebases_list(json: Json = False) -> None:
    """List rebases, the newest first."""
    rows = [one.to_dict() for one in client().rebases()]
    output.table(rows, ["id", "state", "labels"], as_json=json, one="signalbox rebases show ID")


@app.command("show")
def rebases_show(rebase_id: Id, json: Json = False) -> None:
    """Show one rebase: by label its training, and old against new."""
    _page(client().rebase(rebase_id), as_json=json)


@app.command("cancel")
def rebases_cancel(rebase_id: Id) -> None:
    """Cancel the trainings that have not ended.

    Adapters that are trained already stay.
    """
    client().cancel_rebase(rebase_id)


def _asked(release: str, missing: str, datasets: list[str] | None, templates: list[str] | None) -> dict[str, Any]:
    for_all = [text for text in templates or () if "=" not in text]
    if len(for_all) > 1:
        raise typer.BadParameter("--template takes one NAME for all labels, and LABEL=NAME for the others")
    return {
        "release": release or None,
        "missing": missing.replace("-", "_"),
        "datasets": pairs(datasets, "--dataset", "LABEL=NAME"),
        "templates": pairs([text for text in templates or () if "=" in text], "--template", "LABEL=NAME"),
        "template": for_all[0] if for_all else None,
    }


def _plan(plan: "RebasePlan", *, as_json: bool) -> None:
    if as_json:
        output.json_line(plan.to_dict())
        return
    rows = [
        {
            **label,
            "does": _FATES[label["fate"]],
            "time": _time(label["seconds"]),
            "memory": _memory(label["memory_bytes"]),
        }
        for label in plan.labels
    ]
    output.table(rows, ["label", "does", "rows", "template", "time", "memory"], as_json=False)
    for label in plan.labels:
        if label["problem"]:
            output.err.print(f"{label['label']}: {label['problem']}", markup=False, soft_wrap=True)
    for warning in plan.warnings:
        output.err.print(warning, markup=False, soft_wrap=True)
    name, time = plan.base_name or plan.base_model, _time(plan.seconds)
    output.err.print(
        f"{plan.release} to {name}: {sum(label['fate'] == 'train' for label in plan.labels)} adapters, then a selector "
        f"({plan.selector}); the adapters take {time} on one trainer, {_memory(plan.memory_bytes)} at most",
        markup=False,
        soft_wrap=True,
    )


def _followed(rebase: "Rebase", *, as_json: bool) -> "Rebase":
    """Show a bar for each training until the rebase has ended."""
    titles = {label["job"]: label["label"] for label in rebase.labels if label["job"]} | {rebase.id: "selector"}
    with goes_on_without(rebase.id):
        for _ in follow_all(client(), titles, quiet=as_json):
            pass
    return client().rebase(rebase.id)


def _page(rebase: "Rebase", *, as_json: bool) -> None:
    if as_json:
        output.json_line(rebase.to_dict())
        return
    shown = {name: getattr(rebase, name) for name in ("id", "release", "base_model", "state", "why", "candidate")}
    output.record({name: value for name, value in shown.items() if value}, as_json=False)
    output.out.print()
    rows = [
        {
            "label": label["label"],
            "state": label["state"],
            "becomes": label["fate"],
            "answers": _against(label, "exact_match"),
            "routed": _against(label, "routed"),
            "error": label["error"] or None,
        }
        for label in rebase.labels
    ]
    columns = ["label", "state", "becomes", "answers", "routed"]
    output.table(rows, [*columns, "error"] if any(row["error"] for row in rows) else columns, as_json=False)
    if rebase.candidate:
        how = f"signalbox rollouts start {rebase.candidate}"
        gate = "passes the gate" if rebase.passed else "does not pass the gate: `signalbox releases show` says why"
        output.err.print(f"the candidate {gate}; `{how}` tries it on requests", markup=False, soft_wrap=True)


def _against(label: dict[str, Any], name: str) -> str:
    """Old against new, in shares of the validation rows."""
    old, new = label["old"][name], (label["new"] or {}).get(name)
    return f"{_share(old)} → {_share(new)}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _time(seconds: float | None) -> str:
    return "not known" if seconds is None else in_words(seconds)


def _memory(size: int | None) -> str:
    return "-" if size is None else f"{size / _GIB:.1f} GiB"
