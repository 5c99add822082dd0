"""Commands about API keys; they use the ledger, not the API."""

from typing import Annotated, Any

import typer

from services.cli import output
from services.cli.commands.common import Json, redis

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, rotate, revoke.")


@app.command("create")
def keys_create(
    scope: Annotated[
        list[str], typer.Option(help="submit, read, review, train, promote or admin; repeat for more.")
    ] = ["submit"],  # noqa: B006
    tenant: str = "default",
    name: Annotated[str, typer.Option(help="Its purpose or owner.")] = "",
    expires_days: Annotated[float, typer.Option(help="Days until it expires; 0: never.", min=0)] = 0,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="0: no limit; default: the settings' limit.", min=0)
    ] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="As above, for tokens.", min=0)] = None,
    json: Json = False,
) -> None:
    """Create a key; it is shown only this once."""
    from datetime import timedelta

    from shared.security import api_keys as store

    known = [one.value for one in store.Scope]
    if unknown := set(scope) - set(known):
        raise typer.BadParameter(f"no scope {', '.join(unknown)}: there are {', '.join(known)}")
    made = store.create(
        redis(),
        frozenset(map(store.Scope, scope)),
        tenant_id=tenant,
        name=name,
        lifetime=timedelta(days=expires_days) if expires_days else None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    _show_new_key(*made, as_json=json)


@app.command("rotate")
def keys_rotate(
    key_id: str,
    overlap_hours: Annotated[float, typer.Option(help="How long the old key stays valid; 0: not at all.", min=0)] = 24,
    json: Json = False,
) -> None:
    """Create a key that replaces an old one.

    It has the same rights and limits, and is shown only this once.
    """
    from datetime import timedelta

    from shared.security import api_keys as store

    _show_new_key(*store.rotate(redis(), key_id, timedelta(hours=overlap_hours)), as_json=json)


def _show_new_key(key: Any, token: str, *, as_json: bool) -> None:
    output.record({"key": token, **key.model_dump(mode="json", exclude={"sha256"})}, as_json=as_json)


@app.command("list")
def keys_list(json: Json = False) -> None:
    """List keys without their secrets."""
    from shared.security import api_keys as store

    rows = [key.model_dump(mode="json", exclude={"sha256"}) for key in store.list_all(redis())]
    columns = ["id", "name", "scopes", "revoked_at", "expires_at", "created_at", "tenant_id"]
    output.table(rows, columns, as_json=json)


@app.command("revoke")
def keys_revoke(key_id: str) -> None:
    """Revoke a key."""
    from shared.security import api_keys as store

    output.record(store.revoke(redis(), key_id).model_dump(mode="json", exclude={"sha256"}), as_json=False)
