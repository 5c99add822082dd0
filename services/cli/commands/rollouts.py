"""Commands about rollouts."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, client
from services.cli.commands.completion import ReleaseId
from shared.errors import Invalid

if TYPE_CHECKING:
    from signalbox import Rollout

app = typer.Typer(no_args_is_help=True, help="Rollouts: a candidate on a growing share of the requests.")
Id = Annotated[str, typer.Argument(metavar="ID")]


@app.command("start")
def rollouts_start(
    release_id: ReleaseId,
    steps: Annotated[str, typer.Option(help="Shares of the requests in percent, rising.")] = "1,5,25,50,100",
    seconds: Annotated[float, typer.Option(min=0, help="That a step takes at least.")] = 600,
    requests: Annotated[int, typer.Option(min=1, help="Of the candidate, that have to end in a step.")] = 100,
    strategy: Annotated[str, typer.Option(help="canary; shadow: its selector reads along, no more.")] = "canary",
    failure_limit: Annotated[int, typer.Option(min=0, help="Bad looks in a row before it is taken back.")] = 0,
    stick_by: Annotated[str, typer.Option(help="job, or key: a key's requests stay under one release.")] = "job",
    force: bool = False,
    json: Json = False,
) -> None:
    """Try a candidate on a share of the requests.

    It is promoted after the last step, or taken back where it does worse.
    """
    made = client().begin_rollout(
        release_id,
        strategy=strategy,
        steps=_shares(steps),
        seconds=seconds,
        requests=requests,
        failure_limit=failure_limit,
        stick_by=stick_by,
        force=force,
    )
    _page(made, as_json=json)


@app.command("list")
def rollouts_list(json: Json = False) -> None:
    """List rollouts, the newest first."""
    rows = [one.to_dict() for one in client().rollouts()]
    columns = ["id", "release", "strategy", "state", "step", "percent", "why"]
    output.table(rows, columns, as_json=json, one="signalbox rollouts show ID")


@app.command("show")
def rollouts_show(rollout_id: Id, json: Json = False) -> None:
    """Show one rollout: its state, and what its requests say."""
    _page(client().rollout(rollout_id), as_json=json)


@app.command("pause")
def rollouts_pause(rollout_id: Id) -> None:
    """Send the candidate no requests for now."""
    client().pause_rollout(rollout_id)


@app.command("resume")
def rollouts_resume(rollout_id: Id) -> None:
    """Go on with a paused rollout."""
    client().resume_rollout(rollout_id)


@app.command("promote")
def rollouts_promote(rollout_id: Id) -> None:
    """Promote the candidate now."""
    client().promote_rollout(rollout_id)


@app.command("abort")
def rollouts_abort(rollout_id: Id) -> None:
    """Take the candidate back."""
    client().abort_rollout(rollout_id)


def _shares(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise Invalid(
            "steps_invalid", f"write --steps as whole percents with commas, as in 1,5,25; {text!r} is not"
        ) from error


def _page(rollout: "Rollout", *, as_json: bool) -> None:
    shown = rollout.to_dict()
    if as_json:
        output.json_line(shown)
        return
    facts = ("id", "release", "current", "strategy", "state", "why", "step", "percent")
    output.record({name: shown[name] for name in facts}, as_json=False)
    if rollout.findings:
        output.out.print()
        columns = ["fault", "current", "candidate", "requests", "low", "high", "margin"]
        output.table(rollout.findings, columns, as_json=False)
