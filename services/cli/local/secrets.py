"""Random passwords of a deployment's servers, written once: one folder of files per server and per service."""

import secrets
from pathlib import Path

from services.cli.local.redis_acl import ACCOUNTS, acl_file, url_of
from services.cli.local.seaweed import identities, security_files
from shared.errors import Conflict
from shared.security.sealed import new_key

ACCESS_KEY = "signalbox"


def write_passwords(folder: Path, *, ledger: str, broker: str) -> list[str]:
    """Write all files below `folder`, once; returns the names of the files written.

    `ledger` and `broker` hold the users of a Redis server (`services.cli.local.redis_acl`), `s3` the files that MinIO
    and SeaweedFS read, `api`, `selector`, `worker`, `trainer` and `operator` the settings of one process each
    (`SIGNALBOX_SECRETS_DIR`). If all files exist, nothing is written. Raises `Conflict` if only some exist: new
    passwords in half of them would lock everyone out. What SeaweedFS's own parts show each other is a set by itself,
    and so is the key of webhooks: a deployment of an older version gets them at its next start.
    """
    between_parts = {f"s3/{name}": text for name, text in security_files().items()}
    sets = (_files({"ledger": ledger, "broker": broker}), between_parts, {"api/signalbox_webhook_key": new_key()})
    missing = [_missing(folder, files) for files in sets]  # all sets are looked at before any is written
    for names, files in zip(missing, sets, strict=True):
        for name in names:
            write_secret(folder / name, files[name])
    return sorted(name for names in missing for name in names)


def _missing(folder: Path, files: dict[str, str]) -> list[str]:
    missing = [name for name in files if not (folder / name).exists()]
    if missing and len(missing) < len(files):
        raise Conflict(
            "secrets_incomplete",
            f"{folder} lacks {', '.join(missing)} but has the other files: put these back from a copy, or delete the "
            "others too, try again, and restart every server and service with the new passwords",
        )
    return missing


def write_secret(file: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(file)


def kept_key(file: Path) -> str:
    """The key of a file, which is written once."""
    if not file.is_file():
        write_secret(file, new_key())
    return file.read_text()


def new_passwords() -> dict[str, str]:
    """A random password for every account of a Redis server."""
    return {account: secrets.token_urlsafe(32) for account in ACCOUNTS}


def _files(addresses: dict[str, str]) -> dict[str, str]:
    s3_password = secrets.token_urlsafe(32)
    ledger, broker = new_passwords(), new_passwords()
    files = {
        "ledger/users.acl": acl_file("ledger", ledger),
        "broker/users.acl": acl_file("broker", broker),
        "s3/user": ACCESS_KEY,
        "s3/password": s3_password,
        "s3/seaweedfs.json": identities(ACCESS_KEY, s3_password),
    }
    for account in ACCOUNTS:
        files |= {
            f"{account}/signalbox_redis_url": url_of(account, ledger[account], addresses["ledger"]),
            f"{account}/signalbox_broker_url": url_of(account, broker[account], addresses["broker"]),
            f"{account}/signalbox_s3_access_key": ACCESS_KEY,
            f"{account}/signalbox_s3_secret_key": s3_password,
        }
    return files
