"""Commands about jobs: submit, follow, cancel, replay."""

from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, Wait, client, end_of
from services.cli.progress import follow_generation

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, follow, cancel, replay.")


def submit(
    text: str,
    label: Annotated[str | None, typer.Option(help="Skip the selector.")] = None,
    instruction: str = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[bool, typer.Option("--batch", help="May wait while interactive jobs are served.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Submit one text; --wait prints the answer as it is generated."""
    api = client()
    priority = "batch" if batch else None
    job = api.submit(text, label=label, instruction=instruction, max_new_tokens=max_new_tokens, priority=priority)
    if wait:
        end_of(follow_generation(api, job.id, quiet=json), as_json=json)
    else:
        output.job(job.to_dict(), as_json=json)


@app.command("list")
def jobs_list(
    state: str | None = None,
    kind: Annotated[str | None, typer.Option(help="generate, select or train.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    json: Json = False,
) -> None:
    """List jobs, newest first; of a training, what it trains."""
    output.jobs([job.to_dict() for job in client().jobs(state=state, kind=kind, limit=limit)], as_json=json)


@app.command("show")
def jobs_show(job_id: str, json: Json = False) -> None:
    """Show everything about one job."""
    output.job(client().job(job_id).to_dict(), as_json=json)


@app.command("tail")
def jobs_tail(job_id: str) -> None:
    """Print a job's events as they happen."""
    for event in client().stream(job_id):
        output.event(event.type, event.data)


@app.command("cancel")
def jobs_cancel(job_id: str) -> None:
    """Cancel a job: at once if it waits, within a step if it runs."""
    job = client().cancel(job_id)
    if job.state in ("succeeded", "failed", "rejected"):
        output.err.print("it had ended before; nothing is cancelled")
    output.job(job.to_dict(), as_json=False)


@app.command("dead")
def jobs_dead(json: Json = False) -> None:
    """List the dead letters: jobs given up after several workers in a row lost their lease."""
    output.jobs([job.to_dict() for job in client().dead()], as_json=json)


@app.command("replay")
def jobs_replay(job_id: str) -> None:
    """Run a dead letter again."""
    output.job(client().replay(job_id).to_dict(), as_json=False)
