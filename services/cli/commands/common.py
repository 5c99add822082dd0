"""Shared by many commands: options, the end of a wait, and clients that are imported where they are used."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from shared.contracts.labels import short_form

if TYPE_CHECKING:
    from redis import Redis
    from signalbox import Signalbox

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job to its end, with progress.")]


def end_of(job: dict[str, Any], *, as_json: bool) -> None:
    """Show a job that has ended; exits with status 1 if it did not succeed, so that a script stops."""
    output.job(job, as_json=as_json)
    if job.get("state") != "succeeded":
        raise typer.Exit(1)


def pairs(given: Sequence[str] | None, option: str, form: str = "LABEL=VALUE") -> dict[str, str] | None:
    """Return what an option of this form was given; None where it was not."""
    found: dict[str, str] = {}
    for text in given or ():
        written, sign, value = text.partition("=")
        label = short_form(written)
        if not (label and sign and value):
            raise typer.BadParameter(f"{option} takes {form}, not {text!r}")
        if label in found:
            raise typer.BadParameter(f"{option} names {label} twice")
        found[label] = value
    return found or None


@contextlib.contextmanager
def goes_on_without(job_id: str) -> Iterator[None]:
    """Where Ctrl-C ends the wait for a job, say how to follow or cancel it; exits with status 130."""
    try:
        yield
    except KeyboardInterrupt:
        output.err.print(
            f"\n{job_id} goes on: `signalbox jobs tail {job_id}` follows it, `signalbox jobs cancel {job_id}` ends it",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def delete_each(delete: Callable[[str], None], names: Sequence[str]) -> None:
    """Delete one after the other; the first refusal ends it."""
    for name in names:
        delete(name)
        output.out.print(f"deleted {name}", highlight=False)


def client() -> "Signalbox":
    """A client of the running system's API; raises `Unavailable`."""
    from services.cli.local.run_state import current_client

    return current_client()


def redis() -> "Redis":
    """A client of the running system's ledger, with an operator's rights; raises `Unavailable`."""
    from services.cli.local.run_state import current_redis

    return current_redis()
