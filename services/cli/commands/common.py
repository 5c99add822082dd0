"""What many commands need: two options, and doors to the API and the ledger that import nothing before they open."""

from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the job to its end, with progress.")]


def client() -> Any:
    """A client of the running system's API; raises `Unavailable`."""
    from services.cli.place import current_client

    return current_client()


def redis() -> Any:
    """The running system's ledger, for what an operator does there; raises `Unavailable`."""
    from services.cli.place import current_redis

    return current_redis()
