"""Commands about webhooks."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from services.cli import output
from services.cli.commands.common import Json, client, delete_each

app = typer.Typer(no_args_is_help=True, help="Webhooks: who is told of what, and what became of it.")
Id = Annotated[str, typer.Argument(metavar="ID")]


@app.command("create")
def webhooks_create(
    url: str,
    event: Annotated[list[str], typer.Option(help="job.succeeded, job.*, ...; repeat for more.")] = ["*"],  # noqa: B006
    name: Annotated[str, typer.Option(help="Its purpose or owner.")] = "",
    json: Json = False,
) -> None:
    """Add an endpoint; its secret is shown only this once."""
    output.record(client().create_webhook(url, event, name=name).to_dict(), as_json=json)


@app.command("list")
def webhooks_list(json: Json = False) -> None:
    """List endpoints, and how they fare."""
    rows = [one.to_dict() for one in client().webhooks()]
    columns = ["id", "name", "url", "event_types", "enabled", "waiting", "dropped"]
    output.table(rows, columns, as_json=json, one="signalbox webhooks show ID")


@app.command("show")
def webhooks_show(endpoint: Id, json: Json = False) -> None:
    """Show one endpoint with all its fields."""
    output.record(client().webhook(endpoint).to_dict(), as_json=json)


@app.command("test")
def webhooks_test(
    endpoint: Id,
    event: Annotated[str, typer.Option(help="The event to send an example of.")] = "endpoint.test",
    json: Json = False,
) -> None:
    """Send an example, and say what the receiver answered."""
    output.record(client().try_webhook(endpoint, event=event), as_json=json)


@app.command("rotate")
def webhooks_rotate(
    endpoint: Id,
    drop_old: Annotated[bool, typer.Option(help="The old secret signs no longer: somebody else may know it.")] = False,
    json: Json = False,
) -> None:
    """Make a new signing secret, shown only this once.

    The old one signs beside it for a day.
    """
    output.record(client().rotate_webhook_secret(endpoint, keep_old=not drop_old).to_dict(), as_json=json)


@app.command("enable")
def webhooks_enable(endpoint: Id, json: Json = False) -> None:
    """Tell an endpoint of events again.

    What waits for it is tried at once.
    """
    output.record(client().update_webhook(endpoint, enabled=True).to_dict(), as_json=json)


@app.command("disable")
def webhooks_disable(endpoint: Id, json: Json = False) -> None:
    """Tell an endpoint of nothing new.

    What waits for it is kept for three days.
    """
    output.record(client().update_webhook(endpoint, enabled=False).to_dict(), as_json=json)


@app.command("delete")
def webhooks_delete(endpoints: Annotated[list[str], typer.Argument(metavar="ID...")]) -> None:
    """Delete endpoints with all that waits for them."""
    delete_each(client().delete_webhook, endpoints)


@app.command("deliveries")
def webhooks_deliveries(
    endpoint: Id, limit: Annotated[int, typer.Option(min=1, max=200)] = 50, json: Json = False
) -> None:
    """List what an endpoint was or will be told, newest first."""
    rows = [one.to_dict() for one in client().webhook_deliveries(endpoint, limit=limit)]
    told = [row | {"at": _at(row["created_at"]), "next": _at(row["next_try_at"])} for row in rows]
    columns = ["id", "event_type", "at", "state", "attempts", "status_code", "next", "error"]
    output.table(rows if json else told, columns, as_json=json)


@app.command("replay")
def webhooks_replay(endpoint: Id, delivery: Annotated[str, typer.Argument(metavar="DELIVERY")]) -> None:
    """Make a delivery again, under the same id."""
    output.record(client().replay_delivery(endpoint, delivery).to_dict(), as_json=False)


def _at(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
