"""The command line `signalbox`: commands for the API and for processes; heavy modules are imported where used."""

import io
import sys
import warnings
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from services.cli import output
from services.cli.commands import (
    batches,
    corpora,
    evaluation,
    gpu,
    jobs,
    keys,
    models,
    multitask,
    proposals,
    rebases,
    releases,
    rollouts,
    route,
    templates,
    traffic,
    training,
    upkeep,
    uploads,
    usage,
    webhooks,
)
from services.cli.commands.common import Json
from services.cli.errors import known_errors, mendable_errors
from services.cli.panels import Panels

COMMANDS = "signalbox.commands"
"""Entry points by which other distributions add commands: each names a function that takes the application."""

app = typer.Typer(cls=Panels, no_args_is_help=True)
k8s = typer.Typer(no_args_is_help=True, help="Kubernetes: the files of one more group.")
k8s_group = typer.Typer(no_args_is_help=True)
k8s.add_typer(k8s_group, name="group", help="Groups of adapters.")
for name, group in {
    "jobs": jobs.app,
    "batch": batches.app,
    "adapters": uploads.adapters,
    "datasets": uploads.datasets,
    "corpora": corpora.app,
    "models": models.app,
    "templates": templates.app,
    "train": training.app,
    "multitask": multitask.app,
    "route": route.app,
    "evaluate": evaluation.app,
    "releases": releases.app,
    "rollouts": rollouts.app,
    "proposals": proposals.app,
    "rebases": rebases.app,
    "traffic": traffic.app,
    "webhooks": webhooks.app,
    "keys": keys.app,
    "k8s": k8s,
    "gpu": gpu.app,
}.items():
    app.add_typer(group, name=name)
app.command()(rebases.rebase)


def _version(asked: bool) -> None:
    if asked:
        output.out.print(f"signalbox {version('signalbox')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[  # noqa: ARG001 - its callback answers it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Many LoRA adapters, one base model, no hand picking."""
    if not sys.warnoptions:  # what libraries say to those who call them is nothing that an operator can mend
        warnings.simplefilter("ignore", FutureWarning)


Workers = Annotated[
    list[str],
    typer.Option(
        "--worker", help="Groups of one worker, separated by commas; repeat for more. `*`: those that nobody serves."
    ),
]


def main() -> None:
    """Run the command line; a known error prints one sentence and exits with a non-zero status."""
    _replace_unknown_signs()
    try:
        app()
    except known_errors() as error:
        _end(error.code, error.detail)
    except ModuleNotFoundError as error:
        # The command needs packages that are not installed here, as in the image of one service.
        why = f"this command needs {error.name}, which is not here: run it where `make install` was run"
        _end("package_missing", why)
    except mendable_errors() as error:
        from shared.sentences import sentence_of

        known = sentence_of(error)
        _end(known.code, known.detail)


def _replace_unknown_signs() -> None:
    """Print a question mark for a character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _end(code: str, detail: str) -> NoReturn:
    output.error(code, detail)
    sys.exit(1)


@app.command()
def up(
    worker: Workers = ["*"],  # noqa: B006 - typer copies it
    selectors: Annotated[int, typer.Option(help="Selector processes.", min=0)] = 1,
    trainers: Annotated[int, typer.Option(help="Trainer processes; each runs one job at a time.", min=0)] = 1,
) -> None:
    """Run the whole system in the foreground, until Ctrl-C."""
    from services.cli.local.up import up as run

    run(worker, selectors=selectors, trainers=trainers)


@app.command()
def down() -> None:
    """End the system of the data folder.

    It is ended even if its supervisor was killed; this returns when the folder is free.
    """
    from services.cli.local.down import down as run
    from shared.settings import Settings

    with output.out.status("ending: what is in flight is finished first"):
        pids = run(Settings().data_dir)
    output.out.print(f"ended {len(pids)} process(es)" if pids else "nothing runs here")


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option(help="Train everything again.")] = False,
    rate: Annotated[float, typer.Option(help="Requests a second.", min=0.1)] = 0.5,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the system up at the end, until Ctrl-C.")] = False,
) -> None:
    """Show a whole system: train, serve, add a label, check.

    It trains adapters and a selector on this machine, serves a stream of requests while it adds a label, and checks
    what was promised. What is trained stays in the data folder: another run goes on from there.
    """
    from services.cli.demo.run import run

    sys.exit(run(fresh=fresh, rate=rate, keep=keep))


@app.command()
def worker(
    group: Annotated[
        str,
        typer.Option(
            help="Groups, separated by commas; `base` answers unlabelled requests, `*` is all that nobody serves."
        ),
    ],
) -> None:
    """Run one more adapter worker of the running system."""
    import os

    from services.adapter_worker.app import main as run
    from services.cli.local.joining import joined

    os.environ["SIGNALBOX_GROUPS"] = group
    with joined("worker"):
        run()


@app.command()
def trainer(
    once: Annotated[bool, typer.Option("--once", help="End after one job, or if none arrives.")] = False,
) -> None:
    """Run one more trainer of the running system."""
    from services.cli.local.joining import joined
    from services.trainer.app import main as run

    with joined("trainer"):
        run(once=once)


@app.command()
def secrets(
    folder: Annotated[Path, typer.Argument(file_okay=False)],
    ledger: Annotated[str, typer.Option(help="host:port")] = "ledger:6379",
    broker: Annotated[str, typer.Option(help="host:port")] = "broker:6379",
) -> None:
    """Write random passwords for a deployment's servers.

    Files that exist stay as they are.
    """
    from services.cli.local.secrets import write_passwords

    made = write_passwords(folder, ledger=ledger, broker=broker)
    output.out.print(f"wrote {', '.join(made)}" if made else "every file is there already")


@app.command()
def bucket(
    patience: Annotated[float, typer.Option(help="Seconds to wait for the object store.", min=0)] = 120,
) -> None:
    """Create the bucket if it is missing.

    Returns once the store accepts a write.
    """
    from services.cli.local.bucket import make_bucket
    from shared.settings import Settings

    make_bucket(Settings(), patience)


for command in (jobs.submit, usage.usage, proposals.audit, upkeep.gc, upkeep.backup, upkeep.restore):
    app.command()(command)
for _plugin in entry_points(group=COMMANDS):
    _plugin.load()(app)


@k8s_group.command("add")
def k8s_group_add(
    name: str,
    overlay: Annotated[Path, typer.Option(help="keda or hpa.", exists=True, file_okay=False)] = Path(
        "k8s/overlays/keda"
    ),
    workers: Annotated[int, typer.Option(help="The largest number of workers.", min=1)] = 4,
) -> None:
    """Write a new group's files into a Kustomize overlay.

    `kubectl apply -k` starts its workers then.
    """
    from services.cli.k8s_groups import add_group

    output.out.print(f"wrote {add_group(overlay, name, workers)}; kubectl apply -k {overlay}")


@app.command()
def doctor(
    base: Annotated[str, typer.Option("--base", help="Only look at a base model: a folder, or its name.")] = "",
    json: Json = False,
) -> None:
    """Say what is missing and how to fix it.

    With --base it says what of a base model can be served.
    """
    if base:
        from services.cli.local.base_report import examine_base
        from shared.settings import Settings

        findings = examine_base(Settings().model_copy(update={"base_model": base}))
    else:
        from services.cli.local.doctor import examine

        findings = examine()
    output.findings(findings, as_json=json)
    sys.exit(0 if all(finding["ok"] for finding in findings) else 1)
