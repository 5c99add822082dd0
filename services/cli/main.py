"""The command line `signalbox`: doors to the API and to the programs; nothing heavy is imported before it is needed."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli import show
from services.cli.commands import evaluation, jobs, keys, releases, training, uploads
from services.cli.commands.common import Json
from shared.errors import SignalboxError, Unavailable

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Many LoRA adapters, one base model, no hand picking."
)
k8s = typer.Typer(no_args_is_help=True, help="Kubernetes: the files of one more group.")
k8s_group = typer.Typer(no_args_is_help=True)
k8s.add_typer(k8s_group, name="group", help="Groups of adapters.")
for name, group in {
    "jobs": jobs.app,
    "adapters": uploads.adapters,
    "datasets": uploads.datasets,
    "train": training.app,
    "evaluate": evaluation.app,
    "releases": releases.app,
    "keys": keys.app,
    "k8s": k8s,
}.items():
    app.add_typer(group, name=name)

Workers = Annotated[
    list[str], typer.Option("--worker", help="Groups of one worker, separated by commas; repeat for more workers.")
]


def main() -> None:
    """Run the command line; every known error is one sentence and a non-zero exit."""
    try:
        app()
    except SignalboxError as error:
        show.error(error)
        sys.exit(1)
    except ValueError as error:
        from shared.settings import settings_error

        show.error(settings_error(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        show.error(_missing_package(error))
        sys.exit(1)


def _missing_package(error: ModuleNotFoundError) -> SignalboxError:
    """A command that needs more than is installed here, as in an image of one service."""
    return Unavailable(
        "package_missing", f"this command needs {error.name}, which is not here: run it where `make install` was run"
    )


@app.command()
def up(
    worker: Workers = ["base"],  # noqa: B006 - typer copies it
    selectors: Annotated[int, typer.Option(help="Selector processes.", min=0)] = 1,
    trainers: Annotated[int, typer.Option(help="Trainer processes; each runs one job at a time.", min=0)] = 1,
) -> None:
    """Run the whole system in the foreground; Ctrl-C ends all of it."""
    from services.cli.up import up as run

    run(worker, selectors=selectors, trainers=trainers)


@app.command()
def down() -> None:
    """End the system of the data folder, also where its supervisor was killed."""
    from services.cli.up import down as run
    from shared.settings import Settings

    told = run(Settings().data_dir)
    show.out.print(f"told {len(told)} process(es) to end" if told else "nothing runs here")


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option(help="Train everything anew.")] = False,
    rate: Annotated[float, typer.Option(help="Requests a second.", min=0.1)] = 0.5,
) -> None:
    """Show the whole journey on real parts: train, route, add a label while requests flow, sum up."""
    from services.cli.demo import run

    sys.exit(run(fresh=fresh, rate=rate))


@app.command()
def worker(
    group: Annotated[
        str, typer.Option(help="Groups to serve, separated by commas; `base` answers unlabelled requests.")
    ],
) -> None:
    """Run one adapter worker in the foreground (what a container runs)."""
    import os

    os.environ["SIGNALBOX_GROUPS"] = group
    from services.adapter_worker.app import main as run

    run()


@app.command()
def trainer(
    once: Annotated[bool, typer.Option("--once", help="End after one job, or where none comes.")] = False,
) -> None:
    """Run one trainer in the foreground (what a container runs)."""
    from services.trainer.app import main as run

    run(once=once)


@app.command()
def secrets(
    folder: Annotated[Path, typer.Argument(file_okay=False)],
    ledger: Annotated[str, typer.Option(help="host:port")] = "ledger:6379",
    broker: Annotated[str, typer.Option(help="host:port")] = "broker:6379",
) -> None:
    """Write random passwords of a deployment's servers into files, where there are none yet."""
    from services.cli.passwords import write_passwords

    made = write_passwords(folder, ledger=ledger, broker=broker)
    show.out.print(f"wrote {', '.join(made)}" if made else "every file is there already")


@app.command()
def bucket(
    patience: Annotated[float, typer.Option(help="Seconds to wait for the object store.", min=0)] = 120,
) -> None:
    """Make the bucket where it is missing; returns once the store takes a write."""
    from services.cli.bucket import make_bucket
    from shared.settings import Settings

    make_bucket(Settings(), patience)


app.command()(jobs.submit)
app.command("run-reference")(jobs.run_reference)


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="table1, table1-answers, table2 to table4, figure2, figure4, or goals.")],
    base: Annotated[str, typer.Option(help="Base model of the running system: a folder, a hub name, or smollm2.")],
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of <domain>.<task>.train.jsonl.gz and .test.")
    ],
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="Reports, and what is finished so far.")],
    quick: Annotated[bool, typer.Option("--quick", help="A reduced grid for a machine without a GPU.")] = False,
    only: Annotated[list[str], typer.Option(help="Run this condition alone; repeat for more.")] = [],  # noqa: B006
) -> None:
    """Make a table or figure of the paper: its conditions as training jobs, our figures beside the paper's.

    A finished condition is not run again, and a queued one is waited for: run it again to go on.
    """
    from services.cli.reproduce.running import reproduce as run

    sys.exit(run(table, base, data, folder, quick=quick, only=only))


@k8s_group.command("add")
def k8s_group_add(
    name: str,
    overlay: Annotated[Path, typer.Option(help="keda or hpa.", exists=True, file_okay=False)] = Path(
        "k8s/overlays/keda"
    ),
    workers: Annotated[int, typer.Option(help="How many at most.", min=1)] = 4,
) -> None:
    """Write the files of a new group into a Kustomize overlay; kubectl apply -k starts its workers."""
    from services.cli.k8s_groups import add_group

    show.out.print(f"wrote {add_group(overlay, name, workers)}; kubectl apply -k {overlay}")


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is missing and how to mend it."""
    from services.cli.doctor import examine

    findings = examine()
    show.findings(findings, as_json=json)
    sys.exit(0 if all(finding["ok"] for finding in findings) else 1)
