"""Commands about one adapter for several tasks."""

from typing import Annotated, Any

import typer

from services.cli.commands.common import Json, Wait, client, pairs
from services.cli.commands.training import Confirm, DryRun, SettingsFile, queue, submit_training

app = typer.Typer(no_args_is_help=True, help="One adapter for several tasks: planned, trained, proposed.")
Labels = Annotated[list[str], typer.Option("--label", help="label=data set; repeat for every label.")]


@app.command("plan")
def plan(
    label: Labels,
    split_by: Annotated[
        str, typer.Option(help="Besides classification and generation, keep apart by: none, input, output or both.")
    ] = "none",
    settings: SettingsFile = None,
    confirm: Confirm = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Sort tasks into groups that may share an adapter.

    A short run of each task says whether it is high- or low-resource; what all of them take is said before.
    """
    body = {"kind": "multitask.plan", "labels": pairs(label, "--label", "label=dataset"), "split_by": split_by}
    submit_training(body, settings, confirm=confirm, dry_run=dry_run, wait=wait, as_json=json)


@app.command("train")
def train(
    label: Labels,
    plan: Annotated[str, typer.Option(help="Job of the plan that says which tasks are high-resource.")] = "",
    high: Annotated[list[str], typer.Option(help="A high-resource label, without a plan; repeat for more.")] = [],  # noqa: B006
    one_stage: Annotated[bool, typer.Option("--one-stage", help="Train on all tasks at once.")] = False,
    sampler: Annotated[
        str, typer.Option(help="instance, class, temperature, capped-temperature or unimax; default: the fourth.")
    ] = "",
    cap: Annotated[int | None, typer.Option(help="K: rows of a task that count at most; default: 20000.")] = None,
    tau: Annotated[float | None, typer.Option(help="Temperature; default: 2.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Most steps of both stages; default: 15000.")] = None,
    settings: SettingsFile = None,
    confirm: Confirm = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Train one adapter on several tasks.

    High-resource tasks come first, then all of them; each label gets a version with a prefix of its own.
    """
    body: dict[str, Any] = {"kind": "multitask.train", "labels": pairs(label, "--label", "label=dataset")}
    options = {"plan": plan, "high_resource": high, "sampler": sampler}
    body |= {name: value for name, value in options.items() if value}
    numbers = {"cap": cap, "tau": tau, "max_steps": max_steps}
    body |= {name: value for name, value in numbers.items() if value is not None}
    if one_stage:
        body["two_stages"] = False
    submit_training(body, settings, confirm=confirm, dry_run=dry_run, wait=wait, as_json=json)


@app.command("propose")
def propose(
    validation: Annotated[list[str], typer.Option(help="label=data set of rows to measure on; repeat for more.")],
    adapter: Annotated[str, typer.Option(help="The shared adapter, as any of its versions label@n.")] = "",
    job: Annotated[str, typer.Option(help="The training that made it, in place of --adapter.")] = "",
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Measure a shared adapter against each label's own.

    Where labels lose nothing by it, a candidate release sends these to the shared adapter.
    """
    body: dict[str, Any] = {
        "kind": "multitask.propose",
        "validation": pairs(validation, "--validation", "label=dataset"),
    }
    body |= {name: value for name, value in {"adapter": adapter, "job": job}.items() if value}
    queue(client(), body, wait=wait, as_json=json)
