"""Commands about jobs: submit, follow, cancel, replay."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli import show
from services.cli.commands.common import Json, Wait, client, end_of

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, follow, cancel, replay.")


def submit(
    text: str,
    label: Annotated[str | None, typer.Option(help="Skip the selector.")] = None,
    instruction: str = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[bool, typer.Option("--batch", help="May wait while others are served.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Submit one text; with --wait its answer is printed as it comes."""
    body = {"input": text, "instruction": instruction, "params": {"max_new_tokens": max_new_tokens}}
    chosen = ({"label": label} if label else {}) | ({"priority": "batch"} if batch else {})
    api = client()
    job = api.post("/v1/jobs", body | chosen)
    if wait:
        end_of(show.follow_generation(api, job["id"], quiet=json), as_json=json)
    else:
        show.job(job, as_json=json)


def run_reference(
    text: Annotated[list[str] | None, typer.Argument(help="Texts to answer.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON lines of {instruction?, input}; a label is not looked at."
        ),
    ] = None,
    instruction: Annotated[str, typer.Option(help="For the texts; the adapter's own where it is missing.")] = "",
    release: Annotated[str, typer.Option(help="Id; the current one where it is missing.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write here instead of printing.")] = None,
) -> None:
    """Answer texts in this process, step by step: selector, adapter index, adapter with its template, generation.

    One JSON line a text: label, probability, adapter, text. No queue, no engine, no batch; greedy, in float32.
    """
    from services.cli.place import current_settings
    from services.cli.reference import open_reference, read_questions
    from services.cli.reference import run_reference as run

    if not (text or data):
        raise typer.BadParameter('give texts, or a file of them: run-reference "my card was declined" or --data FILE')
    questions = read_questions(text or [], instruction, data)
    reference = open_reference(current_settings(), release)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") if out else contextlib.nullcontext(sys.stdout) as stream:
        for record in run(reference, questions, max_new_tokens):
            show.json_line(record, stream)


@app.command("list")
def jobs_list(
    state: str | None = None, limit: Annotated[int, typer.Option(min=1, max=200)] = 20, json: Json = False
) -> None:
    """List jobs, newest first."""
    show.jobs(client().get("/v1/jobs", state=state, limit=limit)["items"], as_json=json)


@app.command("show")
def jobs_show(job_id: str, json: Json = False) -> None:
    """Show everything about one job."""
    show.job(client().get(f"/v1/jobs/{job_id}"), as_json=json)


@app.command("tail")
def jobs_tail(job_id: str) -> None:
    """Print a job's events as they happen."""
    for kind, data in client().events(f"/v1/jobs/{job_id}/events"):
        show.event(kind, data)


@app.command("cancel")
def jobs_cancel(job_id: str) -> None:
    """Cancel a job: at once where it waits, within a step where it runs."""
    job = client().delete(f"/v1/jobs/{job_id}")
    if job["state"] in ("succeeded", "failed", "rejected"):
        show.err.print("it had ended before; nothing is cancelled")
    show.job(job, as_json=False)


@app.command("dead")
def jobs_dead(json: Json = False) -> None:
    """List the dead letters: jobs that several workers in a row went silent over."""
    show.jobs(client().get("/v1/jobs/dead")["items"], as_json=json)


@app.command("replay")
def jobs_replay(job_id: str) -> None:
    """Start a dead letter anew."""
    show.job(client().post(f"/v1/jobs/{job_id}/replay"), as_json=False)
