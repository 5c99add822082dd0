"""Commands about batches: submit a file, follow it, cancel it, fetch what it wrote."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.bars import add_bar, progress_bars, shown, tell
from services.cli.batch_files import CHATS, batch_input
from services.cli.commands.common import Json, client
from shared.errors import NotFound

if TYPE_CHECKING:
    from signalbox import Batch, Signalbox

app = typer.Typer(no_args_is_help=True, help="Batches: a file of requests, answered in a file.")
_LOOK_SECONDS = 1.0
_COLUMNS = ("id", "status", "total", "completed", "failed", "endpoint", "output_file_id", "error_file_id")


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help='JSON lines of requests, or of {"input": "…"}; CSV.')],
    column: Annotated[str, typer.Option(help="Of a CSV file: the column with the texts; by default `input`.")] = "",
    model: Annotated[str, typer.Option(help="Who answers plain inputs: `auto`, a label, another name.")] = "auto",
    endpoint: Annotated[str, typer.Option(help="/v1/chat/completions, /v1/completions or /v1/select.")] = CHATS,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of each answer to a plain input.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the batch to its end, with progress.")] = False,
    json: Json = False,
) -> None:
    """Upload a file and answer every request of it."""
    content = batch_input(file, column=column, endpoint=endpoint, model=model, max_tokens=max_tokens)
    api = client()
    batch = api.create_batch(api.upload_file(content, file.with_suffix(".jsonl").name).id, endpoint=endpoint)
    if wait:
        batch = _followed(api, batch, quiet=json)
    _print(batch, as_json=json)
    if wait and batch.status != "completed":
        raise typer.Exit(1)


@app.command()
def show(batch_id: str, json: Json = False) -> None:
    """Show a batch, and what is wrong with its input."""
    _print(client().batch(batch_id), as_json=json)


@app.command("list")
def list_batches(
    after: Annotated[str, typer.Option(help="The last one of the page before.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    json: Json = False,
) -> None:
    """List batches, newest first."""
    found = client().batches(after=after, limit=limit)
    rows = [one.to_dict() if json else _row(one) for one in found]
    output.table(rows, _COLUMNS, as_json=json, one="signalbox batch show ID")


@app.command()
def cancel(batch_id: str, json: Json = False) -> None:
    """Cancel a batch; what is done is delivered."""
    _print(client().cancel_batch(batch_id), as_json=json)


@app.command()
def download(
    batch_id: str,
    to: Annotated[Path, typer.Option(help="The folder for the files.")] = Path(),
    json: Json = False,
) -> None:
    """Write a batch's output and errors into a folder."""
    api = client()
    batch = api.batch(batch_id)
    ids = {"output": batch.output_file_id, "errors": batch.error_file_id}
    if not any(ids.values()):
        raise NotFound(
            "batch_without_files", f"batch {batch_id} is {batch.status} and has written no file: wait for its end"
        )
    to.mkdir(parents=True, exist_ok=True)
    written = {name: to / f"{batch_id}_{name}.jsonl" for name, file_id in ids.items() if file_id}
    for name, path in written.items():
        path.write_bytes(api.file_content(str(ids[name])))
    output.table([{"file": str(path)} for path in written.values()], ["file"], as_json=json)


def _followed(api: "Signalbox", batch: "Batch", *, quiet: bool) -> "Batch":
    """Show how many lines have ended, and how many a second, until the batch has ended."""
    progress, began = progress_bars(), time.monotonic()
    bar = add_bar(progress, "batch", stage=batch.status)
    with shown(progress, quiet=quiet):
        while True:
            batch = api.batch(batch.id)
            counts = batch.request_counts
            done = counts["completed"] + counts["failed"]
            rate = f"{done / max(time.monotonic() - began, 0.001):.1f}/s"
            tell(progress, bar, batch.status, completed=done, total=counts["total"] or None, note=rate)
            if batch.is_final:
                return batch
            time.sleep(_LOOK_SECONDS)  # a batch has no stream of events


def _row(batch: "Batch") -> dict[str, Any]:
    return batch.to_dict() | batch.request_counts


def _print(batch: "Batch", *, as_json: bool) -> None:
    if as_json:
        output.json_line(batch.to_dict())
        return
    row = _row(batch)
    output.record({name: row.get(name) for name in _COLUMNS}, as_json=False)
    for error in (batch.errors or {}).get("data", ()):
        where = f"line {error['line']}: " if error["line"] else ""
        output.err.print(f"{where}{error['code']}: {error['message']}", markup=False, soft_wrap=True)
