"""Commands about jobs: submit, follow, cancel, ask again, replay."""

import sys
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands import completion
from services.cli.commands.common import Json, Wait, client, delete_each, end_of, goes_on_without
from services.cli.commands.completion import JobId
from services.cli.progress import follow_generation

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, follow, cancel, ask again, replay.")


def submit(
    text: Annotated[str, typer.Argument(help="The text; `-` reads it from standard input.")],
    label: Annotated[str | None, typer.Option(help="Skip the selector.", autocompletion=completion.labels)] = None,
    instruction: str = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[bool, typer.Option("--batch", help="May wait while interactive jobs are served.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Submit one text; --wait prints its answer as it comes."""
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
    disputed: Annotated[bool | None, typer.Option(help="Whether the selector's parts were at odds.")] = None,
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
        disputed=disputed,
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
def jobs_show(job_id: JobId, json: Json = False) -> None:
    """Show everything about one job."""
    output.job(client().job(job_id).to_dict(), as_json=json)


@app.command("tail")
def jobs_tail(job_id: JobId) -> None:
    """Print a job's events as they happen."""
    with goes_on_without(job_id):
        for event in client().stream(job_id):
            output.event(event.type, event.data)


@app.command("cancel")
def jobs_cancel(job_id: JobId) -> None:
    """Cancel a job: at once if it waits, within a step if it runs."""
    job = client().cancel(job_id)
    if job.state in ("succeeded", "failed", "rejected"):
        output.err.print("it had ended before; nothing is cancelled")
    output.job(job.to_dict(), as_json=False)


@app.command("feedback")
def jobs_feedback(
    job_id: JobId,
    label: Annotated[str | None, typer.Option(help="The right label.")] = None,
    rating: Annotated[int | None, typer.Option(help="-1 wrong, 0 neither, 1 right.", min=-1, max=1)] = None,
    text: Annotated[str | None, typer.Option(help="The right output.")] = None,
    new: Annotated[bool, typer.Option("--new", help="The label is meant as a new one.")] = False,
    accept: Annotated[
        bool | None, typer.Option("--accept/--reject", help="Whether all that was said of it may train.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what you said of it last.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Delete all that was said of it.")] = False,
) -> None:
    """Say what was right about a job, review it, or delete it."""
    api = client()
    if forget or undo:
        delete_each(api.delete_feedback if forget else api.take_back_feedback, [job_id])
        return
    api.feedback(job_id, label=label, rating=rating, output=text, new=new or None, accept=accept)
    output.record(dict(api.job(job_id).feedback or {}), as_json=False)


@app.command("forget")
def jobs_forget(
    user: Annotated[str | None, typer.Option(help="The id of your own user, as requests name it.")] = None,
    user_hash: Annotated[str | None, typer.Option(help="Its hash, as jobs show it.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Id of an API key: all that its line sent, files and batches too.")
    ] = None,
    conversation: Annotated[str | None, typer.Option(help="`conversation_id` in metadata.")] = None,
    job: Annotated[str | None, typer.Option(help="Id of a single job.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and print the hash; forget nothing.")] = False,
    json: Json = False,
) -> None:
    """Forget a user, a key, a conversation or a job.

    Ended jobs and feedback go; other jobs are cancelled first.
    """
    whom = {"user": user, "user_hash": user_hash, "key": key, "conversation_id": conversation, "job_id": job}
    if sum(name is not None for name in whom.values()) != 1:
        raise typer.BadParameter("name one of --user, --user-hash, --key, --conversation and --job")
    report = client().forget_user(**whom, dry_run=dry_run)
    output.record(report, as_json=json)


@app.command("dead")
def jobs_dead(json: Json = False) -> None:
    """List dead letters: jobs given up.

    Several workers in a row lost the lease of such a job.
    """
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
def jobs_replay(
    job_id: Annotated[str, typer.Argument()] = "",
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
) -> None:
    """Run a dead letter again, or all of them."""
    if every == bool(job_id):
        raise typer.BadParameter("name one dead letter, or take --all")
    if every:
        output.record({"replayed": client().replay_dead()}, as_json=False)
    else:
        output.job(client().replay(job_id).to_dict(), as_json=False)


@app.command("drop")
def jobs_drop(job_id: str) -> None:
    """Drop a dead letter: it is kept no longer than any other ended job."""
    delete_each(client().drop, [job_id])
