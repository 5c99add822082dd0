"""Commands about jobs: submit, follow, cancel, ask again, replay."""

import sys
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, Wait, client, delete_each, end_of, goes_on_without
from services.cli.progress import follow_generation

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, follow, cancel, ask again, replay.")


def submit(
    text: Annotated[str, typer.Argument(help="The text; `-` reads it from standard input.")],
    label: Annotated[str | None, typer.Option(help="Skip the selector.")] = None,
    instruction: str = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[bool, typer.Option("--batch", help="May wait while interactive jobs are served.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Submit one text; --wait prints the answer as it is generated."""
    if text == "-":
        text = sys.stdin.read().removesuffix("\n")
    api = client()
    priority = "batch" if batch else None
    job = api.submit(text, label=label, instruction=instruction, max_new_tokens=max_new_tokens, priority=priority)
    if wait:
        with goes_on_without(job.id):
            ended = follow_generation(api, job.id, quiet=json)
        end_of(ended, as_json=json)
    else:
        output.job(job.to_dict(), as_json=json)


@app.command("list")
def jobs_list(
    state: str | None = None,
    kind: Annotated[str | None, typer.Option(help="generate, select or train.")] = None,
    label: Annotated[str | None, typer.Option(help="Named by the job, or chosen by the selector.")] = None,
    rejected: Annotated[bool | None, typer.Option(help="Whether the selector found no label.")] = None,
    min_probability: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    max_probability: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    feedback: Annotated[bool | None, typer.Option(help="Whether somebody gave feedback.")] = None,
    key: Annotated[str | None, typer.Option(help="Id of the API key that submitted it.")] = None,
    user: Annotated[str | None, typer.Option(help="Hash of the user it names, from `jobs forget --dry-run`.")] = None,
    since: Annotated[str | None, typer.Option(help="Created then or later: 2026-01-31T08:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Created then or before.")] = None,
    before: Annotated[str | None, typer.Option(help="The page before named this as the next one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    include: Annotated[
        list[str] | None, typer.Option(help="With --json, also `request`, `result` or `feedback`; repeat it for more.")
    ] = None,
    json: Json = False,
) -> None:
    """List jobs, newest first; of a training, what it trains."""
    page = client().jobs(
        state=state,
        kind=kind,
        label=label,
        rejected=rejected,
        min_probability=min_probability,
        max_probability=max_probability,
        feedback=feedback,
        key=key,
        user=user,
        since=since,
        until=until,
        before=before,
        limit=limit,
        include=include,
    )
    output.jobs([job.to_dict() for job in page], as_json=json)
    if page.next:
        output.err.print(f"more: --before {page.next}")


@app.command("show")
def jobs_show(job_id: str, json: Json = False) -> None:
    """Show everything about one job."""
    output.job(client().job(job_id).to_dict(), as_json=json)


@app.command("tail")
def jobs_tail(job_id: str) -> None:
    """Print a job's events as they happen."""
    with goes_on_without(job_id):
        for event in client().stream(job_id):
            output.event(event.type, event.data)


@app.command("cancel")
def jobs_cancel(job_id: str) -> None:
    """Cancel a job: at once if it waits, within a step if it runs."""
    job = client().cancel(job_id)
    if job.state in ("succeeded", "failed", "rejected"):
        output.err.print("it had ended before; nothing is cancelled")
    output.job(job.to_dict(), as_json=False)


@app.command("feedback")
def jobs_feedback(
    job_id: str,
    label: Annotated[str | None, typer.Option(help="The right label.")] = None,
    rating: Annotated[int | None, typer.Option(help="-1 wrong, 0 neither, 1 right.", min=-1, max=1)] = None,
    text: Annotated[str | None, typer.Option(help="The right output.")] = None,
    new: Annotated[bool, typer.Option("--new", help="The label is meant as a new one.")] = False,
    accept: Annotated[
        bool | None, typer.Option("--accept/--reject", help="Whether all that was said of it may train.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Delete all that was said of it.")] = False,
) -> None:
    """Say what was right about a job, review what was said, or delete it."""
    api = client()
    if forget:
        delete_each(api.delete_feedback, [job_id])
        return
    api.feedback(job_id, label=label, rating=rating, output=text, new=new or None, accept=accept)
    output.record(dict(api.job(job_id).feedback or {}), as_json=False)


@app.command("forget")
def jobs_forget(
    user: Annotated[str, typer.Option(help="The id of your own user, as requests name it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and print the hash; forget nothing.")] = False,
    json: Json = False,
) -> None:
    """Forget a user: ended jobs and feedback go, others are cancelled first."""
    output.record(client().forget_user(user, dry_run=dry_run), as_json=json)


@app.command("dead")
def jobs_dead(json: Json = False) -> None:
    """List the dead letters: jobs given up after several workers in a row lost their lease."""
    output.jobs([job.to_dict() for job in client().dead()], as_json=json)


@app.command("again")
def jobs_again(
    job_id: str,
    label: Annotated[str | None, typer.Option(help="Who answers instead: a label, `base`, or `auto`.")] = None,
    release: Annotated[str | None, typer.Option(help="The current release or the one before it.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Keep all probabilities, nearest rows, the prompt.")
    ] = False,
    json: Json = False,
) -> None:
    """Ask again what a job asked, as a new job."""
    made = client().again(job_id, label=label, release=release, explain=explain or None)
    output.job(made.to_dict(), as_json=json)


@app.command("replay")
def jobs_replay(job_id: str) -> None:
    """Run a dead letter again."""
    output.job(client().replay(job_id).to_dict(), as_json=False)
